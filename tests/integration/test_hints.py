"""Coupled streams over gRPC and in threads: hints may come at any time, in any order, or not; the text is the same."""

import asyncio
import gc
import threading
import time
from contextlib import asynccontextmanager, contextmanager

import grpc
import grpc.aio
import numpy as np
import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.coupled import empty_tree
from cactus_core.sampling import SamplingParams
from cactus_core.session import Hint, Request
from cactus_core.wire import codec
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.engine import Engine
from cloud.service import TREE_CREDITS, VerifierServer
from cloud.target import TargetModel
from cluster.gateway import GatewayServer
from cluster.router import Router
from tests.cloud.trees import random_paths, tree
from tests.integration.conftest import VOCAB_SIZE
from tests.sealed import RawStream

ENDLESS = ((0, -100.0),)  # without this bias most texts are short: one token in eight ends them
SAMPLINGS = [SamplingParams(temperature=temperature, logit_bias=ENDLESS) for temperature in (0.0, 0.7, 1.0)]
EVERYTHING = [(first, second) for first in range(VOCAB_SIZE) for second in range(VOCAB_SIZE)]


def opening(pair, **others):
    return Request(**{"prompt": (2, 3), "max_tokens": 24, "seed": 5, "fingerprint": pair.tokenizer().fingerprint, **others})


def coupled(pair, **others):
    return opening(pair, **{"acceptance": Acceptance("coupled"), "sampling": SAMPLINGS[-1], **others})


@pytest.fixture
async def verifier(small_pair):
    async with VerifierServer(str(small_pair.target), "127.0.0.1:0", memory_gib=0.01) as server:
        await server.loaded()
        num_pages = server.engine.num_free_pages
        yield server
        async with asyncio.timeout(10):  # a stream ends at the edge before it does at the verifier
            while server.engine.num_free_pages < num_pages or server.engine._waiting.streams:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)


class Edge:
    """One stream by hand: what was told, and whatever is to be sent."""

    def __init__(self, call, request):
        self.call, self.text, self.decisions = call, [*request.prompt, *request.committed], []

    async def hint(self, number, tree, wait_s=float("inf")):
        await self.call.write(pb.EdgeFrame(draft_tree=codec.pack_hint(Hint(number, tree, wait_s))))

    async def decision(self):
        frame = await self.call.read()
        decision = codec.unpack_decision(frame.decision)
        assert frame.decision.credits == TREE_CREDITS
        assert decision.base == len(self.text)
        self.text += [*decision.accepted, *([] if decision.final is None else [decision.final])]
        self.decisions.append(decision)
        return decision

    async def rest(self):
        """The text to its end, without another word from here."""
        while not self.decisions or self.decisions[-1].finish is None:
            await self.decision()
        return self.text


@asynccontextmanager
async def edge(server, request):
    """A stream that is closed in peace."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = RawStream(channel)
        await call.write(pb.EdgeFrame(open=codec.pack_request(request)))
        opened = (await call.read()).opened
        assert opened.credits == TREE_CREDITS
        assert opened.base == len(request.prompt) + len(request.committed)
        yield Edge(call, request)
        await call.write(pb.EdgeFrame(close=pb.Close()))
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def text_alone(server, pair, **others):
    async with edge(server, coupled(pair, decode_alone=True, **others)) as stream:
        return await stream.rest()


async def test_hints_late_doubled_and_out_of_order_bring_the_text_that_none_would(verifier, small_pair):
    for seed, sampling in enumerate(SAMPLINGS):
        alone = await text_alone(verifier, small_pair, seed=seed, sampling=sampling)
        chance = np.random.default_rng(seed)
        async with edge(verifier, coupled(small_pair, seed=seed, sampling=sampling)) as stream:
            number = 0
            while not stream.decisions or stream.decisions[-1].finish is None:
                end, number = len(stream.text), number + 2
                for of_round, base in ((number, end), (number, end), (number - 1, 2), (number + 1, int(chance.integers(2, end + 1)))):
                    await stream.hint(of_round, tree(base, *random_paths(chance, VOCAB_SIZE)), 0.002)
                await stream.decision()
        assert stream.text == alone


async def test_every_guess_stands_though_it_starts_where_the_text_began(verifier, small_pair):
    alone = await text_alone(verifier, small_pair)
    path = tuple(alone[2:])
    async with edge(verifier, coupled(small_pair)) as stream:
        await stream.hint(0, tree(2, path[:1]))
        await stream.decision()
        while stream.decisions[-1].finish is None:
            number, num_emitted = len(stream.decisions), len(stream.text) - 2
            await stream.hint(number, tree(2, path[: num_emitted + 3]))
            decision = await stream.decision()
            assert (decision.num_accepted, decision.round) == (min(3, 24 - num_emitted - 1), number)
    assert len(stream.text) == 26
    assert stream.text == alone


async def test_a_stream_cut_after_any_token_goes_on_to_the_same_text(verifier, small_pair):
    whole = await text_alone(verifier, small_pair, max_tokens=10)
    assert len(whole) == 12
    for cut in range(10):
        request = coupled(small_pair, max_tokens=10, committed=tuple(whole[2 : 2 + cut]))
        async with edge(verifier, request) as stream:
            await stream.hint(0, tree(2 + cut // 2, *EVERYTHING), 0.0)
            assert await stream.rest() == whole


@pytest.mark.parametrize("base", [1, 3, 1000])
async def test_a_tree_outside_the_text_ends_its_own_stream(verifier, small_pair, base):
    async with edge(verifier, coupled(small_pair)) as other:
        await other.hint(0, empty_tree(2))
        first = await other.decision()
        with pytest.raises(grpc.aio.AioRpcError, match="goes from 2 to 2") as raised:  # noqa: PT012  # it may come with any of the three
            async with edge(verifier, coupled(small_pair)) as stream:
                await stream.hint(0, tree(base, (1,)))
                await stream.call.read()
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await other.hint(1, empty_tree(2 + first.num_emitted), 0.0)
        await other.rest()


async def test_blocks_and_trees_are_refused_where_the_other_is_drafted(verifier, small_pair):
    frames = {"block": pb.EdgeFrame(draft_block=pb.DraftBlock(base=2)), "tree": pb.EdgeFrame(draft_tree=pb.DraftTree(base=2))}
    for request, kind in (
        (coupled(small_pair), "block"),
        (opening(small_pair), "tree"),
        (opening(small_pair, decode_alone=True, max_tokens=200), "tree"),
    ):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{verifier.port}") as channel:
            call = RawStream(channel, [pb.EdgeFrame(open=codec.pack_request(request)), frames[kind]])
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                async for _ in call:
                    pass
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_whoever_only_reads_may_end_its_frames_at_once(verifier, small_pair):
    alone = await text_alone(verifier, small_pair)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{verifier.port}") as channel:
        frames = [pb.EdgeFrame(open=codec.pack_request(coupled(small_pair, decode_alone=True)))]
        read = [frame.decision.final_token async for frame in RawStream(channel, frames)]
    assert read[1:] == alone[2:]  # the first is Opened


async def test_trees_after_the_texts_end_are_ignored_and_close_in_its_middle_ends_it(verifier, small_pair):
    async with edge(verifier, coupled(small_pair, decode_alone=True)) as stream:
        await stream.rest()
        await stream.hint(9, tree(90, (1,)))
    async with edge(verifier, coupled(small_pair)) as stream:
        await stream.hint(0, empty_tree(2))
        await stream.decision()


@pytest.mark.parametrize("through_gateway", [False, True], ids=["straight", "through a gateway"])
async def test_an_edge_that_vanishes_leaves_no_session_and_no_task(verifier, small_pair, caplog, through_gateway):
    async with GatewayServer("127.0.0.1:0", Router([f"127.0.0.1:{verifier.port}"])) as gateway:
        await gateway.ready()
        before = len(asyncio.all_tasks())
        for is_held in (True, False) * 3:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{(gateway if through_gateway else verifier).port}") as channel:
                call = RawStream(channel)
                request = coupled(small_pair, decode_alone=not is_held, max_tokens=200)
                await call.write(pb.EdgeFrame(open=codec.pack_request(request)))
                await call.read()
                if not is_held:
                    await call.read()
                call.cancel()
        async with asyncio.timeout(10):
            while verifier.engine._residency._sessions or len(asyncio.all_tasks()) > before:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)
    gc.collect()  # where a task's error that nobody asked for would be told
    assert not caplog.records


@contextmanager
def running(pair):
    engine = Engine(TargetModel.load(str(pair.target)), num_pages=256, num_free_tokens=8.0)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def scribble(engine, sessions, ends, seed):
    """Random trees from anywhere in the texts, numbered at random, at random times, until all texts end."""
    chance = np.random.default_rng(seed)
    numbers = [0] * len(sessions)
    while going_on := [i for i, end in enumerate(ends) if not end.done()]:
        i = int(chance.choice(going_on))
        length = len(sessions[i].text)
        base = length if chance.random() < 0.6 else int(chance.integers(2, length + 1))
        numbers[i] = max(0, numbers[i] + int(chance.integers(-1, 3)))
        wait_s = float(chance.choice([0.0, 0.001, 0.02]))
        engine.hint(sessions[i], Hint(numbers[i], tree(base, *random_paths(chance, VOCAB_SIZE)), wait_s))
        time.sleep(float(chance.uniform(0.0, 0.01)))


def written(engine, requests, num_scribes):
    """The texts of all requests at once, and how many drafted tokens stood in them."""
    sessions, told = [engine.open(request) for request in requests], []
    ends = [engine.stream(session, told.append) for session in sessions]
    scribes = [
        threading.Thread(target=scribble, args=(engine, sessions[i::num_scribes], ends[i::num_scribes], i), daemon=True)
        for i in range(num_scribes)
    ]
    for scribe in scribes:
        scribe.start()
    for end in ends:
        end.result(timeout=120)
    for scribe in scribes:
        scribe.join(timeout=60)
    for session in sessions:
        engine.close(session)
    return [session.text for session in sessions], sum(decision.num_accepted for decision in told)


def test_hints_at_random_from_many_threads_change_nothing_but_when_tokens_come(small_pair):
    def requests(*, all_alone):
        return [coupled(small_pair, seed=seed, sampling=SAMPLINGS[seed % 3], decode_alone=all_alone or seed % 2 == 0) for seed in range(24)]

    with running(small_pair) as engine:
        texts, num_accepted = written(engine, requests(all_alone=True), 0)
        assert num_accepted == 0
        assert {len(text) for text in texts} == {26}
        again, num_accepted = written(engine, requests(all_alone=False), 4)
        assert again == texts
        assert num_accepted > 0
    assert engine.num_free_pages == 256
