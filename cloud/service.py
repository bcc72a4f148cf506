"""The verifier as a gRPC service: one stream a request, in front of an engine.

Knows messages and sessions; knows nothing of tensors, of Ray or of who calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Self

import grpc.aio

from cactus_core.errors import InvalidInput, Unavailable
from cactus_core.session import Decision, Limits, Served
from cactus_core.wire import codec
from cactus_core.wire.v1 import speculation_pb2 as pb
from cactus_core.wire.v1 import speculation_pb2_grpc as pb_grpc
from cloud.engine import Engine
from cloud.serving import Context, add_health, bind, server_options, set_serving, tenant_of
from cloud.session import Session
from cloud.status import errors_as_status
from cloud.target import TargetModel
from cloud.turn import Drafts

_GIB = 1 << 30
_LARGE_BYTES = 2048  # unpacking such a frame takes a millisecond and more, up to forty: others' frames are not to wait for that
CREDITS = 1  # blocks of one request that may be on their way at once


class VerifierService(pb_grpc.SpeculationServicer):
    """`Speculate` and `Describe` over one engine, once there is one: until then every call ends with `Unavailable`."""

    def __init__(self) -> None:
        self.engine: Engine | None = None

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.Description:  # noqa: N802  # the proto's name
        async with errors_as_status(context):
            return codec.pack_served(self.ready().served)
        raise AssertionError("the status ended the call")

    async def Speculate(  # noqa: N802  # the proto's name
        self, request_iterator: AsyncIterator[pb.EdgeFrame], context: Context
    ) -> AsyncIterator[pb.CloudFrame]:
        async with errors_as_status(context):
            engine = self.ready()
            session = engine.open(codec.unpack_request(await _first(request_iterator)), tenant_of(context))
            try:
                yield pb.CloudFrame(opened=pb.Opened(base=len(session.text), credits=CREDITS))
                decide = _alone if session.request.decode_alone else _rounds
                async for decision in decide(engine, session, request_iterator):
                    yield pb.CloudFrame(decision=codec.pack_decision(decision, CREDITS))
            finally:
                engine.close(session)

    def ready(self) -> Engine:
        """Raises `Unavailable` until the model is loaded."""
        if self.engine is None:
            raise Unavailable("the verifier is still loading its model; try again in a few seconds")
        return self.engine


async def _rounds(engine: Engine, session: Session, frames: AsyncIterator[pb.EdgeFrame]) -> AsyncIterator[Decision]:
    """A decision for each block or tree, until the edge closes."""
    served = engine.served
    async for frame in frames:
        if frame.WhichOneof("kind") == "close":
            return
        if frame.ByteSize() > _LARGE_BYTES:
            round_number, drafts = await asyncio.to_thread(_unpacked, frame, served)
        else:
            round_number, drafts = _unpacked(frame, served)
        yield await asyncio.wrap_future(engine.submit(session, round_number, drafts))


def _unpacked(frame: pb.EdgeFrame, served: Served) -> tuple[int, Drafts]:
    match frame.WhichOneof("kind"):
        case "draft_block":
            return frame.draft_block.round, codec.unpack_block(frame.draft_block, served.limits, served.vocab_size)
        case "draft_tree":
            hint = codec.unpack_hint(frame.draft_tree, served.limits, served.vocab_size)
            return hint.round, hint.tree
    raise InvalidInput("after Open only DraftBlock, DraftTree and Close may follow")


async def _alone(engine: Engine, session: Session, frames: AsyncIterator[pb.EdgeFrame]) -> AsyncIterator[Decision]:
    """Plain decoding until the text ends. Then it is the edge that closes: a stream that ended under its hands would be an error there."""
    loop = asyncio.get_running_loop()
    decisions: asyncio.Queue[Decision | None] = asyncio.Queue()

    def deliver(decision: Decision | None) -> None:
        loop.call_soon_threadsafe(decisions.put_nowait, decision)

    end = engine.decode(session, deliver)
    end.add_done_callback(lambda _: deliver(None))
    while (decision := await decisions.get()) is not None:
        yield decision
    end.result()
    async for frame in frames:
        if frame.WhichOneof("kind") == "close":
            return


async def _first(frames: AsyncIterator[pb.EdgeFrame]) -> pb.Open:
    async for frame in frames:
        if frame.WhichOneof("kind") == "open":
            return frame.open
        break
    raise InvalidInput("a stream must begin with Open")


class VerifierServer:
    """A target behind its service at an address: an async context that answers at once, serves once the model is loaded,
    and leaves nothing behind.
    """

    def __init__(self, model: str, address: str, *, device: str = "cpu", memory_gib: float | None = None) -> None:
        self._model, self._device, self._memory_gib = model, device, memory_gib
        self._address = address
        self._service = VerifierService()
        self.port = 0

    @property
    def engine(self) -> Engine:
        """Raises `Unavailable` until the model is loaded."""
        return self._service.ready()

    async def __aenter__(self) -> Self:
        limits = Limits()
        self._server = grpc.aio.server(options=server_options(limits))
        pb_grpc.add_SpeculationServicer_to_server(self._service, self._server)
        self._health = await add_health(self._server)
        self.port = bind(self._server, self._address)
        await self._server.start()
        self._loading = asyncio.create_task(asyncio.to_thread(self._load, limits))
        return self

    def _load(self, limits: Limits) -> Engine:
        target = TargetModel.load(self._model, device=self._device)
        memory_bytes = self._memory_gib * _GIB if self._memory_gib is not None else target.spare_memory_bytes()
        engine = Engine(target, num_pages=target.num_pages_in(int(memory_bytes)), limits=limits)
        engine.start()
        return engine

    async def loaded(self) -> None:
        """Returns once requests are served. Raises what `TargetModel.load` raises."""
        self._service.engine = await self._loading
        await set_serving(self._health)

    async def wait(self) -> None:
        await self._server.wait_for_termination()

    async def __aexit__(self, *_: object) -> None:
        await self._health.enter_graceful_shutdown()
        if self._service.engine is not None:
            self._service.engine.stop()
        await self._server.stop(grace=1.0)
