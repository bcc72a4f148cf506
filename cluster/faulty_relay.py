"""A relay of frames that does to them what a network, a driver or a proxy gone wrong may: for tests and for `cactus bench faults`.

TCP and HTTP/2 hide flipped bits and lost packets, so that this stands where frames are whole: it speaks gRPC to both sides, and takes
frames as bytes. A frame is never lost in silence, which no transport does either. cluster/emulated_link.py does what links do to bytes:
delay, stalls, cuts. Knows frames as bytes, chance and calls; knows nothing of what frames say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any, Self

import grpc
import grpc.aio
import numpy as np

from cactus_core.session import Limits
from cloud.serving import SERVICE, Context, bind, server_options
from edge.link import CALL_ENDED

_STALL_S = 0.3
_SPECULATE = f"/{SERVICE}/Speculate"
_DESCRIBE = f"/{SERVICE}/Describe"


class Fault(StrEnum):
    FLIPPED = "flipped"  # one bit of it
    TRUNCATED = "truncated"  # at any byte
    DOUBLED = "doubled"
    SWAPPED = "swapped"  # with the next; where none comes, it is late
    STALLED = "stalled"
    CUT = "cut"  # the stream ends there


class FaultyRelay:
    """Passes streams on to `far` (`host:port`) from an address of its own; an async context. Of each frame of either direction it is drawn,
    with `probability`, whether one of `faults` befalls it; the same `seed` draws the same for the same frames.

    `counts` says how often each did; once it is `healed` none does.
    """

    def __init__(self, far: str, probability: float, seed: int, faults: tuple[Fault, ...] = tuple(Fault)) -> None:
        self._far, self._probability, self._faults = far, probability, faults
        self._random = np.random.default_rng(seed)
        self.counts: Counter[Fault] = Counter()
        self.healed = False
        self.address = ""

    async def __aenter__(self) -> Self:
        handlers = {
            "Speculate": grpc.stream_stream_rpc_method_handler(self._speculate),
            "Describe": grpc.unary_unary_rpc_method_handler(self._describe),
        }
        self._server = grpc.aio.server(options=server_options(Limits()))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = f"127.0.0.1:{bind(self._server, '127.0.0.1:0')}"
        self._channel: Any = grpc.aio.insecure_channel(self._far, options=[("grpc.enable_retries", 0)])
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(grace=1.0)
        await self._channel.close(None)

    async def _describe(self, request: bytes, context: Context) -> bytes:
        try:
            described: bytes = await self._channel.unary_unary(_DESCRIBE)(request)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        return described

    async def _speculate(self, frames: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        call = self._channel.stream_stream(_SPECULATE)(metadata=_own(context))
        upward = asyncio.create_task(self._pass_up(frames, call))
        try:
            async for frame in self._marred(_read(call)):
                yield frame
            if await call.code() is not grpc.StatusCode.OK:
                await context.abort(await call.code(), await call.details() or "")
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        except _CutError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was cut")
        finally:
            upward.cancel()  # not waited for: gRPC ends its reading of the caller once this handler has ended
            call.cancel()  # nothing to a call that has ended

    async def _pass_up(self, frames: AsyncIterator[bytes], call: Any) -> None:
        with contextlib.suppress(*CALL_ENDED):
            try:
                async for frame in self._marred(frames):
                    await call.write(frame)
            except _CutError:
                call.cancel()
                return
            await call.done_writing()

    async def _marred(self, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Raises `_CutError` where the stream is cut."""
        held: bytes | None = None  # a frame that the next is to overtake
        coming = asyncio.ensure_future(anext(frames, None))
        try:
            while True:
                await asyncio.wait({coming}, timeout=_STALL_S if held is not None else None)
                frame = coming.result() if coming.done() else None
                if frame is None:
                    if held is not None:
                        yield held
                        held = None
                    if coming.done():
                        return
                    continue
                coming = asyncio.ensure_future(anext(frames, None))
                fault = self._drawn()
                if fault is Fault.CUT:
                    raise _CutError
                if fault is Fault.STALLED:
                    await asyncio.sleep(_STALL_S)
                if fault is Fault.SWAPPED and held is None:
                    held = frame
                    continue
                for passed in _passed(frame, fault, self._random):
                    yield passed
                if held is not None:
                    yield held
                    held = None
        finally:
            coming.cancel()
            coming.add_done_callback(lambda read: read.cancelled() or read.exception())  # nobody is there to be told

    def _drawn(self) -> Fault | None:
        if self.healed or self._random.random() >= self._probability:
            return None
        fault = self._faults[int(self._random.integers(len(self._faults)))]
        self.counts[fault] += 1
        return fault


class _CutError(Exception):
    pass


def _passed(frame: bytes, fault: Fault | None, random: np.random.Generator) -> tuple[bytes, ...]:
    match fault:
        case Fault.FLIPPED if frame:
            marred = bytearray(frame)
            marred[int(random.integers(len(frame)))] ^= 1 << int(random.integers(8))
            return (bytes(marred),)
        case Fault.TRUNCATED:
            return (frame[: int(random.integers(max(len(frame), 1)))],)
        case Fault.DOUBLED:
            return frame, frame
    return (frame,)


async def _read(call: Any) -> AsyncIterator[bytes]:
    """Raises `_CutError` where the call was cut from here."""
    try:
        while isinstance(frame := await call.read(), bytes):
            yield frame
    except asyncio.CancelledError:
        if not call.cancelled():
            raise
        raise _CutError from None


def _own(context: Context) -> tuple[tuple[str, str | bytes], ...]:
    """The caller's metadata, without what gRPC adds by itself."""
    return tuple((key, value) for key, value in context.invocation_metadata() or () if not key.startswith(("user-agent", "grpc-")))
