"""What a gateway passes on, when, and to whom: real gRPC before stubs of verifiers, which have no model."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import grpc
import grpc.aio
import pytest

from cactus_core.session import Limits
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.serving import server_options
from cluster import passage
from cluster.gateway import GatewayServer
from cluster.router import Router
from tests.sealed import RawStream, sealing_handler

OPEN = pb.EdgeFrame(open=pb.Open(prompt_varints=b"\1\2", max_tokens=1000, acceptance=pb.Acceptance(rule="coupled"), decode_alone=True))
CLOSE = pb.EdgeFrame(close=pb.Close())
OPENED = pb.CloudFrame(opened=pb.Opened(base=2, credits=8))
MANY, LARGE = 1000, bytes(1 << 16)  # more than sockets and windows between here and there hold


class Stub:
    """`answers` are generators of frames, one a stream, given the frames that come and the call's context."""

    def __init__(self, *answers):
        self.answers, self.num_streams = answers, 0

    async def Describe(self, request, context):  # noqa: N802  # the proto's name
        return pb.Description()

    async def Speculate(self, request_iterator, context):  # noqa: N802  # the proto's name
        self.num_streams += 1
        async for frame in self.answers[min(self.num_streams, len(self.answers)) - 1](request_iterator, context):
            yield frame


@asynccontextmanager
async def before(*stubs):
    """A gateway before these; what opens a stream there."""
    async with AsyncExitStack() as stack:
        addresses = []
        for stub in stubs:
            server = grpc.aio.server(options=server_options(Limits()))
            server.add_generic_rpc_handlers((sealing_handler(stub),))
            addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            await server.start()
            stack.push_async_callback(server.stop, None)
        gateway = await stack.enter_async_context(GatewayServer("127.0.0.1:0", Router(addresses)))
        await gateway.ready()
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}"))
        async with asyncio.timeout(60):
            yield partial(RawStream, channel)


def decision(number, base, tokens=(7,), **others):
    accepted, final = tokens[:-1], tokens[-1]
    fields = {"num_accepted": len(accepted), "final_token": final, "accepted_varints": bytes(accepted), "logprobs": [-1.0] * len(tokens)}
    return pb.CloudFrame(decision=pb.Decision(round=number, base=base, **fields | others))


async def settled(count):
    """The count once it has stood still for a while."""
    last = -1
    while last != (last := count()):  # noqa: ASYNC110  # that nothing comes is no event
        await asyncio.sleep(0.5)
    return last


async def test_who_reads_slowly_stops_the_verifier_and_nobody_else():
    num_written = 0

    async def pours(frames, context):
        nonlocal num_written
        yield OPENED
        for number in range(MANY):
            yield pb.CloudFrame(decision=decision(number, 2 + number).decision, padding=LARGE)
            num_written += 1

    async def quick(frames, context):
        yield OPENED
        yield decision(0, 2, finish=pb.FINISH_LENGTH)

    async with before(Stub(pours, quick)) as edge:
        slow = edge()
        await slow.write(OPEN)
        assert (await slow.read()).WhichOneof("kind") == "opened"
        assert await settled(lambda: num_written) < MANY / 2
        assert len([frame async for frame in edge([OPEN])]) == 2
        assert [(await slow.read()).decision.round for _ in range(MANY)] == list(range(MANY))
        await slow.done_writing()
        assert await slow.read() is grpc.aio.EOF


@pytest.mark.parametrize("is_coupled", [True, False])
async def test_a_verifier_that_does_not_read_stops_the_edge(is_coupled):
    reads = asyncio.Event()
    seen = []

    async def listens_late(frames, context):
        yield OPENED
        await reads.wait()
        async for frame in frames:
            if frame.WhichOneof("kind") == "open":
                continue
            seen.append(frame.draft_tree.round)
            yield decision(frame.draft_tree.round, 1 + len(seen))

    num_written = 0

    async def write_all(call):
        nonlocal num_written
        for number in range(MANY):
            await call.write(pb.EdgeFrame(draft_tree=pb.DraftTree(round=number, packed=LARGE)))
            num_written += 1
        await call.done_writing()

    opening = pb.EdgeFrame()
    opening.CopyFrom(OPEN)
    if not is_coupled:
        opening.open.ClearField("acceptance")
        opening.open.decode_alone = False
    async with before(Stub(listens_late)) as edge:
        call = edge()
        await call.write(opening)
        await call.read()
        writing = asyncio.create_task(write_all(call))
        assert await settled(lambda: num_written) < MANY / 2
        reads.set()
        while await call.read() is not grpc.aio.EOF:
            pass
        await writing
    assert seen == list(range(MANY))


async def test_a_verifiers_status_comes_through_with_all_it_says():
    async def refuses(frames, context):
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full; come back later", (("retry-after-ms", "250"),))
        yield

    stub = Stub(refuses)
    async with before(stub, Stub(refuses)) as edge:
        call = edge([OPEN])
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await call.details() == "full; come back later"
        assert ("retry-after-ms", "250") in tuple(await call.trailing_metadata())
    assert stub.num_streams <= 1


async def test_a_verifier_that_does_not_answer_is_passed_over(monkeypatch):
    monkeypatch.setattr(passage, "_OPEN_TIMEOUT_S", 0.2)

    async def hangs(frames, context):
        await asyncio.Event().wait()
        yield

    async def answers(frames, context):
        yield OPENED
        yield decision(0, 2, finish=pb.FINISH_LENGTH)

    async with before(Stub(hangs), Stub(answers)) as edge:
        for _ in range(2):  # one of them begins at the one that hangs
            assert [frame.WhichOneof("kind") async for frame in edge([OPEN])] == ["opened", "decision"]


async def test_another_verifier_is_told_what_came_and_what_has_no_answer():
    """The first dies with one block decided and one not; the second is asked for the rest, for what is left of the budget."""
    heard = []

    async def dies(frames, context):
        yield OPENED
        async for frame in frames:
            if frame.WhichOneof("kind") == "draft_block" and frame.draft_block.round == 0:
                yield decision(0, 3, (5, 6, 7), divergence=[0.1, 0.2, 0.0])
            elif frame.WhichOneof("kind") == "draft_block":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the verifier is stopping; send the request again")

    async def goes_on(frames, context):
        yield pb.CloudFrame(opened=pb.Opened(base=6, credits=1))
        async for frame in frames:
            heard.append(frame)
            if frame.WhichOneof("kind") == "draft_block":
                yield decision(frame.draft_block.round, 6, (8,), finish=pb.FINISH_LENGTH)

    opening = pb.Open(prompt_varints=b"\1\2", committed_varints=b"\3", max_tokens=9, acceptance=pb.Acceptance(rule="block", budget=1.0))
    blocks = [pb.EdgeFrame(draft_block=pb.DraftBlock(round=number, base=base)) for number, base in ((0, 3), (1, 6))]
    stub = Stub(dies, goes_on)
    async with before(stub) as edge:
        call = edge()
        await call.write(pb.EdgeFrame(open=opening))
        assert (await call.read()).WhichOneof("kind") == "opened"
        rounds = []
        for block in blocks:
            await call.write(block)
            rounds.append((await call.read()).decision.round)
        await call.write(CLOSE)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    assert rounds == [0, 1]
    assert stub.num_streams == 2
    assert heard[1:] == [blocks[1], CLOSE]
    assert heard[0].open.committed_varints == bytes([3, 5, 6, 7])
    assert heard[0].open.acceptance.budget == pytest.approx(0.7)


async def test_a_text_that_is_complete_needs_no_other_verifier():
    edge_has_read = asyncio.Event()

    async def dies_at_the_end(frames, context):
        yield OPENED
        yield decision(0, 2, finish=pb.FINISH_LENGTH)
        await edge_has_read.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the verifier is stopping; send the request again")

    stub = Stub(dies_at_the_end)
    async with before(stub) as edge:
        call = edge()
        await call.write(OPEN)
        for _ in range(2):
            await call.read()
        edge_has_read.set()
        await asyncio.sleep(0.1)
        await call.write(CLOSE)  # which would fail on a stream that has ended
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
    assert stub.num_streams == 1


async def test_a_text_whose_tokens_are_not_all_known_is_left_to_its_edge():
    async def keeps_to_itself(frames, context):
        yield OPENED
        yield decision(0, 2, (5, 6), accepted_varints=b"")
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the verifier is stopping; send the request again")

    async with before(Stub(keeps_to_itself)) as edge:
        call = edge()
        await call.write(OPEN)
        assert [(await call.read()).WhichOneof("kind") for _ in range(2)] == ["opened", "decision"]
        with pytest.raises(grpc.aio.AioRpcError, match="lost in the middle") as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_what_opens_nothing_is_refused_before_any_verifier_hears_of_it():
    stub = Stub()
    async with before(stub) as edge:
        for frames, says in (
            ([CLOSE], "begin with Open"),
            ([], "begin with Open"),
            ([pb.EdgeFrame(open=pb.Open(prompt_varints=b"\x80"))], "varint"),
        ):
            call = edge(frames)
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert says in await call.details()
    assert stub.num_streams == 0
