"""The verifier as a gRPC service: one stream a request, in front of an engine.

Knows messages and sessions; knows nothing of tensors, of Ray or of who calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from cactus_core.errors import InvalidInput, Unavailable
from cactus_core.request_log import REQUEST, facts, request_id_in
from cactus_core.session import Decision, Limits, Served
from cactus_core.wire import codec
from cactus_core.wire.frames import Inbox, Outbox, edge_frame
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.certificates import ServerCertificates
from cloud.dtype import DType
from cloud.engine import Engine
from cloud.own_thread import in_own_thread
from cloud.serving import Context, add_health, bind, is_spelled_out, server_options, set_serving, speculation_handler, tenant_of
from cloud.session import Session
from cloud.status import errors_as_status
from cloud.target import TargetModel

_log = logging.getLogger(__name__)
_GIB = 1 << 30
_LARGE_BYTES = 2048  # unpacking such a frame takes a millisecond and more, up to forty: others' frames are not to wait for that
CREDITS = 1  # blocks of one request that may be on their way at once
TREE_CREDITS = 8  # trees: more than a few are a waste of the link, since only the newest counts

M = TypeVar("M", pb.DraftBlock, pb.DraftTree)
T = TypeVar("T")


class VerifierService:
    """`Speculate` and `Describe` over one engine, once there is one: until then every call ends with `Unavailable`."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.num_bytes_up = self.num_bytes_down = 0  # of frames

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """Frames come and go as bytes, which are sealed (cactus_core/wire/frames.py); descriptions are messages."""
        return speculation_handler(self._speculate, self._describe)

    async def _describe(self, _: pb.DescribeRequest, context: Context) -> pb.Description:
        async with errors_as_status(context):
            return codec.pack_served(self.ready().served)
        raise AssertionError("the status ended the call")

    async def _speculate(self, frames: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        REQUEST.set(request_id_in(context.invocation_metadata()))
        started = time.monotonic()
        async with errors_as_status(context):
            engine = self.ready()
            said = self._opened(frames)
            opening = await _first(said)
            outbox = Outbox(padded=opening.padded)
            session = engine.open(codec.unpack_request(opening), tenant_of(context))
            try:
                num_credits = TREE_CREDITS if session.request.acceptance.is_coupled else CREDITS
                yield self._sent(outbox.seal(pb.CloudFrame(opened=pb.Opened(base=len(session.text), credits=num_credits))))
                spells_out = is_spelled_out(context) and not session.request.acceptance.is_coupled
                streams = session.request.acceptance.is_coupled or session.request.decode_alone
                async with aclosing((_streamed if streams else _rounds)(engine, session, said)) as decisions:
                    async for decision in decisions:
                        told = _spelled_out(session, decision) if spells_out else decision
                        yield self._sent(outbox.seal(pb.CloudFrame(decision=codec.pack_decision(told, num_credits))))
            finally:
                engine.close(session)
                num_prompt = len(session.request.prompt)
                sizes = {"prompt_tokens": num_prompt, "tokens": len(session.text) - num_prompt}
                ended = facts(rule=session.request.acceptance.rule, seconds=round(time.monotonic() - started, 4), **sizes)
                _log.info("text left" if not session.is_complete else "text complete", extra=ended)

    async def _opened(self, frames: AsyncIterator[bytes]) -> AsyncIterator[pb.EdgeFrame]:
        """Raises `Damaged` at the first that is not what was sent next."""
        inbox = Inbox()
        async for frame in frames:
            self.num_bytes_up += len(frame)
            yield edge_frame(inbox.open(frame))

    def _sent(self, frame: bytes) -> bytes:
        self.num_bytes_down += len(frame)
        return frame

    def ready(self) -> Engine:
        """Raises `Unavailable` until the model is loaded."""
        if self.engine is None:
            raise Unavailable("the verifier is still loading its model; try again in a few seconds")
        return self.engine


def _spelled_out(session: Session, decision: Decision) -> Decision:
    return replace(decision, accepted=tuple(session.text[decision.base : decision.base + decision.num_accepted]))


async def _rounds(engine: Engine, session: Session, frames: AsyncIterator[pb.EdgeFrame]) -> AsyncGenerator[Decision, None]:
    """A decision for each block, until the edge closes."""
    async for frame in frames:
        match frame.WhichOneof("kind"):
            case "draft_block":
                message = frame.draft_block
                block = await _unpacked(codec.unpack_block, message, engine.served)
                yield await asyncio.wrap_future(engine.submit(session, message.round, block))
            case "close":
                return
            case _:
                raise InvalidInput("where blocks are drafted, only DraftBlock and Close may follow Open")


async def _streamed(engine: Engine, session: Session, frames: AsyncIterator[pb.EdgeFrame]) -> AsyncGenerator[Decision, None]:
    """The decisions as they come, until the edge closes. When the text has ended it is the edge that closes: a stream that ended
    under its hands would be an error there.
    """
    loop = asyncio.get_running_loop()
    decisions: asyncio.Queue[Decision | None] = asyncio.Queue()  # None: the text has ended, or the edge has

    def deliver(decision: Decision | None) -> None:
        loop.call_soon_threadsafe(decisions.put_nowait, decision)

    end = engine.stream(session, deliver)
    end.add_done_callback(lambda _: deliver(None))
    listening = asyncio.create_task(_take_hints(engine, session, frames, end))
    listening.add_done_callback(lambda _: decisions.put_nowait(None))
    try:
        while (decision := await decisions.get()) is not None:
            yield decision
        if end.done():
            end.result()
        await listening
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _take_hints(engine: Engine, session: Session, frames: AsyncIterator[pb.EdgeFrame], end: Future[None]) -> None:
    """Hands the edge's trees on in their order, until it closes; whoever only wants to read may end its frames without that."""
    async for frame in frames:
        match frame.WhichOneof("kind"):
            case "draft_tree":
                engine.hint(session, await _unpacked(codec.unpack_hint, frame.draft_tree, engine.served))
            case "close":
                return
            case _:
                raise InvalidInput("where the cloud decodes, only DraftTree and Close may follow Open")
    if session.request.decode_alone:
        await asyncio.wrap_future(end)


async def _unpacked(unpack: Callable[[M, Limits, int], T], message: M, served: Served) -> T:
    unpacking = partial(unpack, message, served.limits, served.vocab_size)
    return await asyncio.to_thread(unpacking) if message.ByteSize() > _LARGE_BYTES else unpacking()


async def _first(frames: AsyncIterator[pb.EdgeFrame]) -> pb.Open:
    async for frame in frames:
        if frame.WhichOneof("kind") == "open":
            return frame.open
        break
    raise InvalidInput("a stream must begin with Open")


class VerifierServer:
    """A target behind its service at an address: an async context that answers at once, serves once the model is loaded,
    and leaves nothing behind. `step_at_least_s` is as in `Engine`: a slower verifier, *emulated*. Without `certificates` in plain text.
    """

    def __init__(
        self,
        model: str,
        address: str,
        *,
        device: str = "cpu",
        dtype: DType = DType.AUTO,
        memory_gib: float | None = None,
        step_at_least_s: float = 0.0,
        certificates: ServerCertificates | None = None,
    ) -> None:
        self._model, self._device, self._dtype, self._memory_gib = model, device, dtype, memory_gib
        self._step_at_least_s = step_at_least_s
        self._address, self._certificates = address, certificates
        self.service = VerifierService()
        self.port = 0

    @property
    def engine(self) -> Engine:
        """Raises `Unavailable` until the model is loaded."""
        return self.service.ready()

    async def __aenter__(self) -> Self:
        limits = Limits()
        credentials = self._certificates.credentials() if self._certificates else None
        self._server = grpc.aio.server(options=server_options(limits))
        self._server.add_generic_rpc_handlers((self.service.handler(),))
        self._health = await add_health(self._server)
        self.port = bind(self._server, self._address, credentials)
        await self._server.start()
        self._loading = asyncio.create_task(asyncio.to_thread(in_own_thread, partial(self._load, limits)))
        return self

    def _load(self, limits: Limits) -> Engine:
        target = TargetModel.load(self._model, device=self._device, dtype=self._dtype)
        memory_bytes = self._memory_gib * _GIB if self._memory_gib is not None else target.spare_memory_bytes()
        num_pages = target.num_pages_in(int(memory_bytes))
        engine = Engine(target, num_pages=num_pages, limits=limits, step_at_least_s=self._step_at_least_s)
        engine.start()
        return engine

    async def loaded(self) -> None:
        """Returns once requests are served. Raises what `TargetModel.load` raises."""
        self.service.engine = await self._loading
        await set_serving(self._health)

    async def wait(self) -> None:
        await self._server.wait_for_termination()

    async def __aexit__(self, *_: object) -> None:
        await self._health.enter_graceful_shutdown()
        if self.service.engine is not None:
            self.service.engine.stop()
        await self._server.stop(grace=1.0)
