"""The edge's end of the wire: an endpoint, and one stream a request.

Knows frames and statuses; knows nothing of models or of what is done with a decision.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import grpc.aio

from cactus_core.block import Block
from cactus_core.errors import CactusError, LimitExceeded, Unavailable, error_for
from cactus_core.request_log import KEY
from cactus_core.session import Decision, Hint, Limits, Request, Served
from cactus_core.wire import codec
from cactus_core.wire.frames import Inbox, Outbox, cloud_frame
from cactus_core.wire.v1 import speculation_pb2 as pb
from cactus_core.wire.v1 import speculation_pb2_grpc as pb_grpc
from edge.credentials import Credentials

CONNECT_TIMEOUT_S = 10.0
_LIMITS = Limits()
_END_TIMEOUT_S = 5.0
# A link that is silent for so long is asked whether it still is one; a connection that was lost is soon tried again.
_CHANNEL = [
    ("grpc.enable_retries", 0),
    ("grpc.http2.bdp_probe", 0),  # 17 bytes up for nearly every decision, to size windows that our frames never fill
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # of every ping, a keepalive's too: gRPC would wait a minute
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # in spite of its name: how long one attempt may take
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
# How a call fails that is written to, or read, as it ends. gRPC lets an `InternalError` of its own out of `done_writing`.
CALL_ENDED = (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError)
_CUT = "Internal error from Core"  # how grpc.aio names a write to a call that ends at that moment

_SPECULATE = f"/{pb.DESCRIPTOR.services_by_name['Speculation'].full_name}/Speculate"

Call: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"


class Endpoint:
    """Where requests go: a verifier's or a gateway's address, `host:port`, and others that stand in for it. An async context that holds
    a channel to each, for any number of requests.
    """

    def __init__(self, *addresses: str, padded: bool = False, credentials: Credentials | None = None) -> None:
        """One of `addresses` is used until it is lost, then the next, and after the last the first again.

        `padded`: frames are of few sizes, both ways, so that they tell a listener less (cactus_core/wire/padding.py).

        Entering the context raises `InvalidInput` for `credentials` that cannot be used.
        """
        self._addresses = addresses
        self._credentials = credentials or Credentials()
        self._place = 0
        self._padded = padded

    @property
    def address(self) -> str:
        """The one in use."""
        return self._addresses[self._place]

    async def __aenter__(self) -> Self:
        self._channels = {address: self._credentials.channel(address, _CHANNEL) for address in self._addresses}
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for channel in self._channels.values():
            await channel.close(None)

    async def describe(self) -> Served:
        """What is served there. Raises `Unavailable` when nothing answers at any address, `Unauthenticated` to whom it says nothing."""
        for _ in self._addresses[1:]:
            try:
                return await self._describe()
            except Unavailable:
                continue
        return await self._describe()

    async def _describe(self) -> Served:
        address = self.address
        metadata = self._credentials.metadata(address)
        async with self._leaving_when_lost(address):
            try:
                return codec.unpack_served(
                    await self._stub(address).Describe(pb.DescribeRequest(), timeout=CONNECT_TIMEOUT_S, metadata=metadata)
                )
            except grpc.aio.AioRpcError as error:
                if _is_unreachable(error) and (reason := await self._credentials.why_unreachable(address)):
                    raise Unavailable(reason) from None
                raise
        raise AssertionError("it has returned")

    @asynccontextmanager
    async def open(self, request: Request, request_id: str = "") -> AsyncIterator[Link]:
        """A stream for one request, at the first address that takes it. It is ended, not cancelled, when the context is left in peace or by
        a caller who wants no more. The other side logs it by `request_id`, or by one of its own.
        """
        address, call, link = await self._opened(request, request_id)
        try:
            async with self._leaving_when_lost(address, call):
                try:
                    yield link
                except (GeneratorExit, asyncio.CancelledError):  # the caller wants no more: a stream that is cancelled costs gRPC memory
                    await link.end()
                    raise
                await link.end()
        finally:
            call.cancel()  # nothing to a call that has ended

    async def _opened(self, request: Request, request_id: str) -> tuple[str, Call, Link]:
        opening = codec.pack_request(request)
        opening.padded = self._padded
        named = ((KEY, request_id),) if request_id else ()
        num_left = len(self._addresses)
        while True:
            num_left -= 1
            address = self.address
            channel: Any = self._channels[address]  # whose type has no place for what leaves bytes as they are
            call: Call = channel.stream_stream(_SPECULATE)(metadata=(*self._credentials.metadata(address), *named))
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
                raise await _status_of(call) from None
        except Unavailable:
            if address == self.address:  # else another request has seen it before
                self._place = (self._place + 1) % len(self._addresses)
            raise


def _ours(address: str, error: grpc.aio.AioRpcError) -> CactusError:
    code, details = error.code().name, error.details() or ""
    if details == _CUT:
        return Unavailable(f"the connection to {address} was lost in the middle of the request; send it again")
    if _is_unreachable(error):
        return Unavailable(f"cannot reach {address}: start a cluster there with `cactus up`, or name another with --endpoint")
    return error_for(code, details, _retry_after_s(error.trailing_metadata()))


def _is_unreachable(error: grpc.aio.AioRpcError) -> bool:
    code, details = error.code().name, error.details() or ""
    return code == "DEADLINE_EXCEEDED" or (code == "UNAVAILABLE" and "connect" in details)


async def _status_of(call: Call) -> CactusError:
    """What a call that has ended says."""
    details = await call.details() or "the stream ended before the text did"
    return error_for((await call.code()).name, details, _retry_after_s(await call.trailing_metadata()))


def _retry_after_s(metadata: Iterable[Any] | None) -> float | None:
    for key, value in metadata or ():
        if key == "retry-after-ms" and str(value).isdecimal():
            return int(value) / 1e3
    return None


class Link:
    """One request's stream. Whatever is read raises `Damaged` where it is not what was sent next."""

    def __init__(self, call: Call, *, padded: bool = False) -> None:
        self._call, self._outbox, self._inbox = call, Outbox(padded=padded), Inbox()
        self.num_bytes_up = self.num_bytes_down = 0  # of frames
        self._reading: asyncio.Future[object] | None = None  # goes on where nobody waits for it any more

    async def send(self, message: pb.EdgeFrame) -> int:
        """Returns the bytes of its frame. Mutates a message that is to be padded. Raises `LimitExceeded` for what no server takes: gRPC
        would lose the status that says so.
        """
        frame = self._outbox.seal(message)
        self.num_bytes_up += len(frame)
        if len(frame) > _LIMITS.max_frame_bytes:
            most = _LIMITS.max_frame_bytes
            raise LimitExceeded(f"a message of {len(frame)} bytes is over the {most} that servers take; shorten the prompt")
        await self._call.write(frame)
        return len(frame)

    async def opened(self) -> None:
        """Returns once the request was taken."""
        await self._next()

    async def exchange(self, block: Block, round_number: int) -> Decision:
        """One round: the block up, its decision down."""
        await self.send(pb.EdgeFrame(draft_block=codec.pack_block(block, round_number)))
        return await self.next_decision()

    async def send_hint(self, hint: Hint) -> int:
        """Sends a tree, whose decision comes when it comes; returns the bytes of its frame."""
        return await self.send(pb.EdgeFrame(draft_tree=codec.pack_hint(hint)))

    async def next_decision(self) -> Decision:
        return codec.unpack_decision((await self._next()).decision)

    async def end(self) -> None:
        """Closes the stream: whatever happens to it now costs nobody anything. Gives up on a link that no longer is one."""
        with contextlib.suppress(*CALL_ENDED, TimeoutError):
            async with asyncio.timeout(_END_TIMEOUT_S):
                await self.send(pb.EdgeFrame(close=pb.Close()))
                await self._call.done_writing()
                while isinstance(await self._read(), bytes):
                    pass

    async def _next(self) -> pb.CloudFrame:
        frame = await self._read()
        if not isinstance(frame, bytes):
            raise await _status_of(self._call)
        self.num_bytes_down += len(frame)
        return cloud_frame(self._inbox.open(frame))

    async def _read(self) -> object:
        """The next frame. A caller that is cancelled meanwhile cancels the wait alone: gRPC would cancel the stream with its read."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._call.read())
            self._reading.add_done_callback(lambda read: read.cancelled() or read.exception())  # nobody may be there to be told
        frame = await asyncio.shield(self._reading)
        self._reading = None
        return frame
