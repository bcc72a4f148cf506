"""The edge's end of the wire: an endpoint, and one stream a request.

Knows frames and statuses; knows nothing of models or of what is done with a decision.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import grpc.aio

from cactus_core.block import Block
from cactus_core.errors import CactusError, Unavailable, error_for
from cactus_core.session import Decision, Hint, Request, Served
from cactus_core.wire import codec
from cactus_core.wire.frames import Inbox, Outbox, cloud_frame
from cactus_core.wire.v1 import speculation_pb2 as pb
from cactus_core.wire.v1 import speculation_pb2_grpc as pb_grpc

CONNECT_TIMEOUT_S = 10.0
# A link that is silent for so long is asked whether it still is one; a connection that was lost is soon tried again.
_CHANNEL = [
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # in spite of its name: how long one attempt may take
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
_CUT = "Internal error from Core"  # how grpc.aio names a write to a call that ends at that moment

_SPECULATE = f"/{pb.DESCRIPTOR.services_by_name['Speculation'].full_name}/Speculate"

Call: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"


class Endpoint:
    """Where requests go: a verifier's or a gateway's address, `host:port`, and others that stand in for it. An async context that holds
    a channel to each, for any number of requests.
    """

    def __init__(self, *addresses: str, padded: bool = False) -> None:
        """One of `addresses` is used until it is lost, then the next, and after the last the first again.

        `padded`: frames are of few sizes, both ways, so that they tell a listener less (cactus_core/wire/padding.py).
        """
        self._addresses = addresses
        self._place = 0
        self._padded = padded

    @property
    def address(self) -> str:
        """The one in use."""
        return self._addresses[self._place]

    async def __aenter__(self) -> Self:
        self._channels = {address: grpc.aio.insecure_channel(address, options=_CHANNEL) for address in self._addresses}
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for channel in self._channels.values():
            await channel.close(None)

    async def describe(self) -> Served:
        """What is served there. Raises `Unavailable` when nothing answers at any address."""
        for _ in self._addresses[1:]:
            try:
                return await self._describe()
            except Unavailable:
                continue
        return await self._describe()

    async def _describe(self) -> Served:
        address = self.address
        async with self._leaving_when_lost(address):
            return codec.unpack_served(await self._stub(address).Describe(pb.DescribeRequest(), timeout=CONNECT_TIMEOUT_S))
        raise AssertionError("it has returned")

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Link]:
        """A stream for one request, at the first address that takes it. It is ended, not cancelled, when the context is left in peace."""
        address, call, link = await self._opened(request)
        try:
            async with self._leaving_when_lost(address, call):
                yield link
                await link.end()
        finally:
            call.cancel()  # nothing to a call that has ended

    async def _opened(self, request: Request) -> tuple[str, Call, Link]:
        opening = codec.pack_request(request)
        opening.padded = self._padded
        num_left = len(self._addresses)
        while True:
            num_left -= 1
            address = self.address
            channel: Any = self._channels[address]  # whose type has no place for what leaves bytes as they are
            call: Call = channel.stream_stream(_SPECULATE)()
            link = Link(call, padded=self._padded)
            try:
                async with self._leaving_when_lost(address, call):
                    await link.send(pb.EdgeFrame(open=opening))
                    await link.opened()
            except BaseException as error:
                call.cancel()
                if not isinstance(error, Unavailable) or not num_left:
                    raise
            else:
                return address, call, link

    def _stub(self, address: str) -> pb_grpc.SpeculationStub:
        return pb_grpc.SpeculationStub(self._channels[address])

    @asynccontextmanager
    async def _leaving_when_lost(self, address: str, call: Call | None = None) -> AsyncIterator[None]:
        """Tells in our words how a call to `address` failed. When that can no longer be had the next address is in use."""
        try:
            try:
                yield
            except grpc.aio.AioRpcError as error:
                raise _ours(address, error) from None
            except asyncio.InvalidStateError:  # the call had ended before we wrote: its status says why
                if call is None:
                    raise
                raise error_for((await call.code()).name, await call.details()) from None
        except Unavailable:
            if address == self.address:  # else another request has seen it before
                self._place = (self._place + 1) % len(self._addresses)
            raise


def _ours(address: str, error: grpc.aio.AioRpcError) -> CactusError:
    code, details = error.code().name, error.details() or ""
    if details == _CUT:
        return Unavailable(f"the connection to {address} was lost in the middle of the request; send it again")
    if code == "DEADLINE_EXCEEDED" or (code == "UNAVAILABLE" and "connect" in details):
        return Unavailable(f"cannot reach {address}: start a cluster there with `cactus up`, or name another with --endpoint")
    return error_for(code, details)


class Link:
    """One request's stream. Whatever is read raises `Damaged` where it is not what was sent next."""

    def __init__(self, call: Call, *, padded: bool = False) -> None:
        self._call, self._outbox, self._inbox = call, Outbox(padded=padded), Inbox()

    async def send(self, message: pb.EdgeFrame) -> int:
        """Returns the bytes of its frame. Mutates a message that is to be padded."""
        frame = self._outbox.seal(message)
        await self._call.write(frame)
        return len(frame)

    async def opened(self) -> None:
        """Returns once the request was taken."""
        await self._read()

    async def end(self) -> None:
        """Closes a stream that did its work: whatever happens to it now costs nobody anything."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.send(pb.EdgeFrame(close=pb.Close()))
            await self._call.done_writing()
            while isinstance(await self._call.read(), bytes):
                pass

    async def exchange(self, block: Block, round_number: int) -> Decision:
        """One round: the block up, its decision down."""
        await self.send(pb.EdgeFrame(draft_block=codec.pack_block(block, round_number)))
        return await self.next_decision()

    async def send_hint(self, hint: Hint) -> int:
        """Sends a tree, whose decision comes when it comes; returns the bytes of its frame."""
        return await self.send(pb.EdgeFrame(draft_tree=codec.pack_hint(hint)))

    async def next_decision(self) -> Decision:
        return codec.unpack_decision((await self._read()).decision)

    async def _read(self) -> pb.CloudFrame:
        frame = await self._call.read()
        if not isinstance(frame, bytes):
            raise error_for((await self._call.code()).name, await self._call.details() or "the stream ended before the text did")
        return cloud_frame(self._inbox.open(frame))
