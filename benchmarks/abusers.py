"""Callers that a gateway is to keep from others, in a process of their own: each does one thing wrong, as fast as it can or is told to.

Knows gRPC and what is shown to it; knows nothing of who suffers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from tempfile import NamedTemporaryFile
from typing import Any

import grpc
import grpc.aio

from benchmarks.load_parts import Serve, Shown, Stream
from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED
from cactus_core.session import Request
from cactus_core.wire import codec
from cactus_core.wire.frames import sealed
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.serving import SERVICE
from edge.link import CALL_ENDED

STRANGER, EXPIRED, TENANT = "stranger", "expired", "greedy"  # who they are, by what they show
FLOOD_PER_S = 500.0
_NUM_WORKERS = 4
_NUM_SLOW, _ASKS_PER_S = 8, 50.0
_HANDSHAKES_PER_S = 50.0
_TURN_S = 5.0  # that one attempt may take
_LARGE_BYTES = 1 << 30
_SPECULATE = f"/{SERVICE}/Speculate"
_NARROW = [("grpc.http2.lookahead_bytes", 4096), ("grpc.http2.bdp_probe", 0)]  # what a slow reader lets come before it is read
_OWN: list[tuple[str, int]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
_REQUEST = Request((1, 2, 3), 1 << 19, 1, "", acceptance=Acceptance(COUPLED), decode_alone=True)
_OPENING = sealed(pb.EdgeFrame(open=codec.pack_request(_REQUEST)).SerializeToString(), 0)

Endings = Counter[str]


async def abusers(serve: Serve, address: str, shown: Mapping[str, Shown]) -> None:
    """`abuse` says how each attempt of `lasts_s` seconds ended, by the names of statuses."""

    async def abuse(kind: str, lasts_s: float) -> Endings:
        endings = Endings()
        await _KINDS[kind](address, shown, time.monotonic() + lasts_s, endings)
        return endings

    await serve(None, abuse=abuse)


async def _opened(channel: Any, endings: Endings) -> None:
    call = channel.stream_stream(_SPECULATE)(timeout=_TURN_S)
    with contextlib.suppress(*CALL_ENDED):
        await call.write(_OPENING)
        await call.done_writing()
        while isinstance(await call.read(), bytes):
            pass
    endings[(await call.code()).name] += 1


async def _in_turn(attempt: Callable[[], Awaitable[None]], until: float) -> None:
    async def work() -> None:
        while time.monotonic() < until:
            await attempt()

    await asyncio.gather(*(work() for _ in range(_NUM_WORKERS)))


async def _at_rate(attempt: Callable[[], Coroutine[Any, Any, None]], per_s: float, until: float) -> None:
    """Whatever becomes of those before."""
    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while due < until:
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            group.create_task(attempt())
            due += 1.0 / per_s


async def _unauthenticated(address: str, shown: Mapping[str, Shown], until: float, endings: Endings) -> None:
    async with shown[STRANGER].channel(address, _OWN) as channel:
        await _in_turn(lambda: _opened(channel, endings), until)


async def _expired(address: str, shown: Mapping[str, Shown], until: float, endings: Endings) -> None:
    """By TLS alone: gRPC's client comes to a standstill over so many connections that fail."""
    host, _, port = address.rpartition(":")
    context = _context(shown[EXPIRED])

    async def shake_hands() -> None:
        try:
            async with asyncio.timeout(_TURN_S):
                reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
                try:
                    await reader.read()  # whom the server turns away learns it here
                finally:
                    writer.transport.abort()
            endings["closed"] += 1
        except (OSError, TimeoutError) as error:  # ssl.SSLError among them
            endings[getattr(error, "reason", None) or type(error).__name__] += 1

    await _at_rate(shake_hands, _HANDSHAKES_PER_S, until)


def _context(shown: Shown) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=shown.ca.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    with NamedTemporaryFile() as file:  # from where alone it is read
        file.write(shown.certificate + shown.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def _over_quota(address: str, shown: Mapping[str, Shown], until: float, endings: Endings) -> None:
    async with shown[TENANT].channel(address, _OWN) as channel:
        await _in_turn(lambda: _opened(channel, endings), until)


async def _flood(address: str, shown: Mapping[str, Shown], until: float, endings: Endings) -> None:
    async with shown[TENANT].channel(address, _OWN) as channel:
        await _at_rate(lambda: _opened(channel, endings), FLOOD_PER_S, until)


async def _large(address: str, shown: Mapping[str, Shown], until: float, endings: Endings) -> None:
    """By gRPC that waits: its asyncio says that a write failed, in place of the status that came."""
    message = bytes(_LARGE_BYTES)

    def send() -> None:
        with grpc.secure_channel(address, shown[TENANT].credentials, options=_OWN) as opened:
            channel: Any = opened  # whose type has no place for what leaves bytes as they are
            while time.monotonic() < until:
                call = channel.stream_stream(_SPECULATE)(iter([message]), timeout=10 * _TURN_S)
                with contextlib.suppress(grpc.RpcError):
                    for _ in call:
                        pass
                endings[call.code().name] += 1

    await asyncio.to_thread(send)


async def _slow(address: str, shown: Mapping[str, Shown], until: float, endings: Endings) -> None:
    """Streams that ask and ask and never read."""

    async def stream(channel: Any) -> None:
        ours = Stream(channel)
        await ours.open()
        await ours.ask(_ASKS_PER_S, until)
        endings[await ours.ending()] += 1

    async with shown[TENANT].channel(address, [*_OWN, *_NARROW]) as channel:
        await asyncio.gather(*(stream(channel) for _ in range(_NUM_SLOW)))


_KINDS: dict[str, Callable[[str, Mapping[str, Shown], float, Endings], Awaitable[None]]] = {
    "unauthenticated": _unauthenticated,
    "expired certificate": _expired,
    "over quota": _over_quota,
    "1 GB message": _large,
    "slow reader": _slow,
    "flood of opens": _flood,
}
KINDS = tuple(_KINDS)
