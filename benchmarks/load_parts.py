"""The parts of the load's benchmark, each for a process of its own: a stub of a verifier, a gateway, and clients.

The STUB has no model: it answers Open with Opened, and each further frame at once with a decision of four tokens, over real gRPC.
Knows frames; knows nothing of what is made of the times.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np

from cactus_core.acceptance import Acceptance
from cactus_core.coupled import CoupledTree
from cactus_core.rules import COUPLED
from cactus_core.session import Hint, Limits, Request, Served
from cactus_core.wire import codec, varints
from cactus_core.wire.frames import Inbox, Outbox, edge_frame
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.serving import SERVICE, server_options
from cluster.gateway import GatewayServer
from cluster.router import Router
from edge.link import CALL_ENDED

Serve = Callable[..., Awaitable[None]]
_ACCEPTED = (101, 102, 103)
_NODES = 24  # of a tree: what the demo's edges send over most links
_PROMPT = tuple(range(64))
_TREE = CoupledTree(len(_PROMPT), np.arange(_NODES) + 200, np.arange(_NODES) - 1)
_LAST_S = 2.0
_PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a caller trusts and shows, as PEM, and its token."""

    ca: bytes
    certificate: bytes
    key: bytes
    token: str

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        by_tls = grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)
        return grpc.composite_channel_credentials(by_tls, grpc.access_token_call_credentials(self.token))

    def channel(self, address: str, options: list[tuple[str, int]]) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(address, self.credentials, options=options)


async def stub_verifier(serve: Serve) -> None:
    server = grpc.aio.server(options=server_options(Limits()))
    accepted = varints.encode(np.array(_ACCEPTED))

    async def speculate(_: object, context: Any) -> None:
        base = len(_PROMPT)
        inbox, outbox = Inbox(), Outbox()
        inbox.open(await context.read())
        await context.write(outbox.seal(pb.CloudFrame(opened=pb.Opened(base=base, credits=8))))
        while isinstance(frame := await context.read(), bytes):
            if (asked := edge_frame(inbox.open(frame))).WhichOneof("kind") == "close":
                return
            decision = pb.Decision(
                round=asked.draft_tree.round,
                base=base,
                num_accepted=len(_ACCEPTED),
                final_token=7,
                logprobs=(-0.5, -0.25, -0.125, -1.0),
                timings=pb.Timings(verify_s=0.001),
                credits=8,
                accepted_varints=accepted,
            )
            base += len(_ACCEPTED) + 1
            await context.write(outbox.seal(pb.CloudFrame(decision=decision)))

    async def describe(_: bytes, context: Any) -> bytes:
        return codec.pack_served(Served("stub", "", 1 << 17, 1 << 20, Limits(), {}, {})).SerializeToString()

    handlers = {
        "Speculate": grpc.stream_stream_rpc_method_handler(speculate),
        "Describe": grpc.unary_unary_rpc_method_handler(describe),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        await serve(f"127.0.0.1:{port}")
    finally:
        await server.stop(None)


async def gateway(serve: Serve, replica: str) -> None:
    async def use() -> tuple[float, float]:
        """Resident KB, and seconds of processor time so far."""
        return _resident_kb(), time.process_time()

    async with GatewayServer("127.0.0.1:0", Router([replica])) as server:
        await server.ready()
        await serve(f"127.0.0.1:{server.port}", use=use)


def _resident_kb() -> float:
    """Where the system does not tell, nothing."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES / 1024
    except OSError:
        return math.nan


async def clients(serve: Serve, shown: Shown | None = None) -> None:
    """Streams to any address: in plain text unless they show something."""
    channels: list[grpc.aio.Channel] = []
    streams: list[Stream] = []

    async def open_(address: str, num_streams: int, num_connections: int) -> None:
        """Edges have a connection each; those of one device, or behind another gateway, share one."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        channels.extend(
            shown.channel(address, options) if shown else grpc.aio.insecure_channel(address, options) for _ in range(num_connections)
        )
        streams.extend(Stream(channels[place % num_connections]) for place in range(num_streams))
        for stream in streams:
            await stream.open()

    async def drive(rounds_per_s: float, starts_at: float, lasts_s: float) -> list[list[float]]:
        """Of each stream the delays of its rounds in seconds, each from when it was due. `rounds_per_s` are of all streams together."""
        interval = len(streams) / rounds_per_s
        async with asyncio.TaskGroup() as group:
            driven = [
                group.create_task(stream.drive(starts_at + interval * place / len(streams), interval, starts_at + lasts_s))
                for place, stream in enumerate(streams)
            ]
        return [task.result() for task in driven]

    async def close() -> None:
        for stream in streams:
            await stream.close()
        for channel in channels:
            await channel.close(None)
        streams.clear()
        channels.clear()

    try:
        await serve(None, open=open_, drive=drive, close=close)
    finally:
        await close()


class Stream:
    """One request."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._round, self._outbox = 0, Outbox()

    async def open(self) -> None:
        self._call = self._channel.stream_stream(f"/{SERVICE}/Speculate")()
        request = Request(_PROMPT, 1 << 19, 1, "", acceptance=Acceptance(COUPLED), decode_alone=True)
        await self._call.write(self._outbox.seal(pb.EdgeFrame(open=codec.pack_request(request))))
        await self._call.read()

    async def drive(self, first: float, interval: float, until: float) -> list[float]:
        """A round each `interval` seconds, or as soon after as the one before allows. Moments are on the system's monotonic clock."""
        delays: list[float] = []
        frame = pb.EdgeFrame(draft_tree=codec.pack_hint(Hint(1, _TREE, math.inf)))
        while (due := first + len(delays) * interval) < until:  # a sum of intervals would end just before `until`, and be one more
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            self._round += 1
            frame.draft_tree.round = self._round
            await self._call.write(self._outbox.seal(frame))
            await self._call.read()
            delays.append(time.monotonic() - due)
        return delays

    async def ask(self, rounds_per_s: float, until: float) -> None:
        """As `drive`, and never reads."""
        frame = pb.EdgeFrame(draft_tree=codec.pack_hint(Hint(1, _TREE, math.inf)))
        with contextlib.suppress(*CALL_ENDED, TimeoutError):
            async with asyncio.timeout(until - time.monotonic()):
                while True:
                    self._round += 1
                    frame.draft_tree.round = self._round
                    await self._call.write(self._outbox.seal(frame))
                    await asyncio.sleep(1.0 / rounds_per_s)
        await asyncio.sleep(max(until - time.monotonic(), 0.0))

    async def ending(self) -> str:
        """Reads at last: the name of the status, or that there is none."""
        try:
            async with asyncio.timeout(_LAST_S):
                while isinstance(await self._call.read(), bytes):
                    pass
                code: grpc.StatusCode = await self._call.code()
        except TimeoutError:
            self._call.cancel()
            return "still open"
        except grpc.aio.AioRpcError as error:
            code = error.code()
        return code.name

    async def close(self) -> None:
        await self._call.write(self._outbox.seal(pb.EdgeFrame(close=pb.Close())))
        await self._call.done_writing()
        while isinstance(await self._call.read(), bytes):
            pass
