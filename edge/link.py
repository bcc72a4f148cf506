"""The edge's end of the wire: an endpoint, and one stream a request.

Knows frames and statuses; knows nothing of models or of what is done with a decision.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeAlias

import grpc
import grpc.aio

from cactus_core.block import Block
from cactus_core.errors import CactusError, Unavailable, error_for
from cactus_core.session import Decision, Hint, Request, Served
from cactus_core.wire import codec
from cactus_core.wire.padding import pad
from cactus_core.wire.v1 import speculation_pb2 as pb
from cactus_core.wire.v1 import speculation_pb2_grpc as pb_grpc

CONNECT_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 5.0
# A link that is silent for so long is asked whether it still is one; a connection that was lost is soon tried again.
_CHANNEL = [
    ("grpc.enable_retries", 0),
    ("grpc.http2.bdp_probe", 0),  # 17 bytes up for nearly every decision, to size windows that our frames never fill
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # in spite of its name: how long one attempt may take
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
_CUT = "Internal error from Core"  # how grpc.aio names a write to a call that ends at that moment

Call: TypeAlias = grpc.aio.StreamStreamCall[pb.EdgeFrame, pb.CloudFrame]


class Endpoint:
    """A verifier's address, `host:port`; an async context that holds one channel for any number of requests."""

    def __init__(self, address: str, *, padded: bool = False) -> None:
        """`padded`: frames are of few sizes, both ways, so that they tell a listener less (cactus_core/wire/padding.py)."""
        self.address = address
        self._padded = padded

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.address, options=_CHANNEL)
        self._stub = pb_grpc.SpeculationStub(self._channel)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._channel.close(None)

    async def describe(self) -> Served:
        """What is served there. Raises `Unavailable` when nothing answers."""
        try:
            return codec.unpack_served(await self._stub.Describe(pb.DescribeRequest(), timeout=CONNECT_TIMEOUT_S))
        except grpc.aio.AioRpcError as error:
            raise self._ours(error) from None

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Link]:
        """A stream for one request. It is ended, not cancelled, when the context is left in peace or by a caller who wants no more."""
        call = self._stub.Speculate()
        link = Link(call, padded=self._padded)
        try:
            opening = codec.pack_request(request)
            opening.padded = self._padded
            await link.send(pb.EdgeFrame(open=opening))
            await call.read()
            yield link
        except grpc.aio.AioRpcError as error:
            raise self._ours(error) from None
        except asyncio.InvalidStateError:  # the call had ended before we wrote: its status says why
            raise error_for((await call.code()).name, await call.details()) from None
        except (GeneratorExit, asyncio.CancelledError):  # the caller wants no more: a stream that is cancelled costs gRPC memory
            await link.end()
            raise
        else:
            await link.end()
        finally:
            call.cancel()  # nothing to a call that has ended

    def _ours(self, error: grpc.aio.AioRpcError) -> CactusError:
        code, details = error.code().name, error.details() or ""
        if details == _CUT:
            return Unavailable(f"the connection to {self.address} was lost in the middle of the request; send it again")
        if code == "DEADLINE_EXCEEDED" or (code == "UNAVAILABLE" and "connect" in details):
            return Unavailable(f"cannot reach {self.address}: start a cluster there with `cactus up`, or name another with --endpoint")
        return error_for(code, details)


class Link:
    """One request's stream, once it is open."""

    def __init__(self, call: Call, *, padded: bool = False) -> None:
        self._call, self._padded = call, padded
        self._reading: asyncio.Future[object] | None = None  # goes on where nobody waits for it any more

    async def send(self, frame: pb.EdgeFrame) -> int:
        """Returns its bytes."""
        if self._padded:
            pad(frame)
        await self._call.write(frame)
        return frame.ByteSize()

    async def exchange(self, block: Block, round_number: int) -> Decision:
        """One round: the block up, its decision down."""
        await self.send(pb.EdgeFrame(draft_block=codec.pack_block(block, round_number)))
        return await self.next_decision()

    async def send_hint(self, hint: Hint) -> int:
        """Sends a tree, whose decision comes when it comes; returns the bytes of its frame."""
        return await self.send(pb.EdgeFrame(draft_tree=codec.pack_hint(hint)))

    async def next_decision(self) -> Decision:
        frame = await self._read()
        if not isinstance(frame, pb.CloudFrame):
            raise error_for((await self._call.code()).name, await self._call.details() or "the stream ended before the text did")
        return codec.unpack_decision(frame.decision)

    async def end(self) -> None:
        """Closes the stream: whatever happens to it now costs nobody anything. Gives up on a link that no longer is one."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            async with asyncio.timeout(_END_TIMEOUT_S):
                await self._call.write(pb.EdgeFrame(close=pb.Close()))
                await self._call.done_writing()
                while isinstance(await self._read(), pb.CloudFrame):
                    pass

    async def _read(self) -> object:
        """The next frame. A caller that is cancelled meanwhile cancels the wait alone: gRPC would cancel the stream with its read."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._call.read())
            self._reading.add_done_callback(lambda read: read.cancelled() or read.exception())  # nobody may be there to be told
        frame = await asyncio.shield(self._reading)
        self._reading = None
        return frame
