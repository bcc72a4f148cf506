"""Thousands of fuzzed frames against a real verifier and a real gateway: each ends its own stream with one right status, and nothing else
shows. `CACTUS_FUZZED_FRAMES` says how many; `make fuzz` sends a hundred thousand.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cloud.service import VerifierServer
from cloud.serving import SERVICE, TENANT
from cluster.access.security import Security
from cluster.gateway import GatewayServer
from cluster.router import Router
from edge.client import Client, Drafting
from edge.completion import Completion
from edge.credentials import Credentials
from edge.link import Endpoint
from edge.tuning.plan import RowsPlan, TreePlan
from tests.cluster.access.test_tenants import tenants_file
from tests.integration.fuzzed_streams import DAMAGED, FAULTS, INVALID, OK, FuzzedStream, fuzzed_streams

_SPECULATE = f"/{SERVICE}/Speculate"
NUM_FRAMES = int(os.environ.get("CACTUS_FUZZED_FRAMES", "2000"))
_AT_ONCE = 40
_PATIENCE_S = 60.0  # a stream that waits so long is one that nobody ends
_NUM_TOKENS = 24
_ENDLESS = ((0, -100.0),)
_FUZZER, _BYSTANDER = "token-of-the-fuzzer", "token-of-the-bystander"
_AS_FUZZER = ("authorization", f"Bearer {_FUZZER}"), (TENANT, "fuzzer")
_ROOM = "opens_per_s = 1e9\nopens_burst = 1e9"  # what is refused at the door is not looked into


def told(channel, frames, fuzzed_at):
    """The status that came back, and its words. It takes a thread: of a stream that ends while it is written to, gRPC's asyncio tells that
    a write failed, in place of the status that came.

    Nothing follows an opening before that is answered: of what comes before, a gateway keeps the newest alone. The edge says no more, and
    waits.
    """
    opened, is_over = threading.Event(), threading.Event()

    def said():
        first, *others = frames
        yield first
        if fuzzed_at:
            opened.wait()
        yield from others
        is_over.wait()

    call = channel.stream_stream(_SPECULATE)(said(), metadata=_AS_FUZZER, timeout=_PATIENCE_S)
    try:
        for _ in call:
            opened.set()
    except grpc.RpcError:
        pass
    finally:
        opened.set()
        is_over.set()
    return call.code(), call.details() or ""


class Arena:
    """A verifier and a gateway on loopback, and a bystander who writes texts through that all the while."""

    def __init__(self, pair, folder):
        self.pair, self.folder = pair, folder
        self.codes, self.faults, self.channels, self.wrong = Counter(), Counter(), {}, []
        self.num_texts = self.num_sent = 0
        self.stack = AsyncExitStack()

    async def enter(self):
        self.verifier = await self.stack.enter_async_context(VerifierServer(str(self.pair.target), "127.0.0.1:0", memory_gib=0.05))
        await self.verifier.loaded()
        file = tenants_file(self.folder, fuzzer=[_FUZZER], bystander=[_BYSTANDER])
        file.write_text(f"{file.read_text()}\n[admission]\n{_ROOM}")
        replica = f"127.0.0.1:{self.verifier.port}"
        self.gateway = await self.stack.enter_async_context(GatewayServer("127.0.0.1:0", Router([replica]), Security(tenants=file)))
        await self.gateway.ready()
        before = f"127.0.0.1:{self.gateway.port}"
        for where, address in (("verifier", replica), ("gateway", before)):
            self.channels[where] = self.stack.enter_context(grpc.insecure_channel(address))
        self.threads = self.stack.enter_context(ThreadPoolExecutor(_AT_ONCE))
        token = self.folder / "bystander.token"
        token.write_text(_BYSTANDER)
        self.endpoint = await self.stack.enter_async_context(Endpoint(before, credentials=Credentials(token_file=token)))
        self.expected = [await self.text(number) for number in range(6)]
        self.bystander = asyncio.create_task(self.write_on())

    async def text(self, number):
        """The same for the same number, whatever happens beside: coupled, and greedy by blocks."""
        completion = Completion("w5 w2")
        coupled = number % 2 == 0
        drafting = Drafting(tree=TreePlan(6, 4, 0.002)) if coupled else Drafting(rows=RowsPlan(2, 3))
        client = Client(self.endpoint, self.pair.tokenizer(), self.pair.drafter(), drafting)
        sampling = SamplingParams(temperature=1.0 if coupled else 0.0, logit_bias=_ENDLESS)
        acceptance = Acceptance(COUPLED) if coupled else Acceptance()
        async for _ in client.generate(completion, max_tokens=_NUM_TOKENS, sampling=sampling, seed=number, acceptance=acceptance):
            pass
        return [token.id for token in completion.tokens], completion.summary.num_resumes

    async def write_on(self):
        for number in itertools.cycle(range(len(self.expected))):
            assert await self.text(number) == self.expected[number]
            self.num_texts += 1

    async def play(self, streams):
        async with asyncio.timeout(2 * _PATIENCE_S):
            await asyncio.gather(*map(self.play_one, streams))
        if self.bystander.done():
            self.bystander.result()

    async def play_one(self, stream: FuzzedStream):
        """To the verifier and to the gateway in turn."""
        self.num_sent += 1
        where = ("verifier", "gateway")[self.num_sent % 2]
        asking = told, self.channels[where], stream.frames, stream.place
        code, details = await asyncio.get_running_loop().run_in_executor(self.threads, *asking)
        if code not in stream.expected or "\n" in details:
            self.wrong.append((where, code.name, details, stream))
        self.codes[code] += 1
        self.faults[stream.fault] += 1

    async def leave(self):
        """Everything is as it was before anybody came."""
        self.bystander.cancel()
        await asyncio.gather(self.bystander, return_exceptions=True)
        async with asyncio.timeout(30):
            while self.verifier.engine.num_sessions or self.gateway.access.door.num_streams:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
        assert self.verifier.engine.num_free_pages == self.verifier.engine.num_pages
        assert self.gateway.router.num_streams == 0
        assert (await self.text(0)) == self.expected[0]


@pytest.mark.slow
def test_every_fuzzed_frame_ends_its_stream_with_one_right_status_and_disturbs_no_other(small_pair, tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    arena = Arena(small_pair, tmp_path)
    with asyncio.Runner() as runner:
        try:
            runner.run(arena.enter())
            _fuzz(runner, arena, small_pair.tokenizer().fingerprint)
            runner.run(arena.leave())
        finally:
            runner.run(arena.stack.aclose())
        left = asyncio.all_tasks(runner.get_loop())
    print(f"{sum(arena.codes.values())} streams: {dict(arena.codes)}; {dict(arena.faults)}; {arena.num_texts} texts beside")
    assert not arena.wrong, f"{len(arena.wrong)} statuses are wrong, as {arena.wrong[:3]}"
    assert not left
    assert not [record.getMessage() for record in caplog.records]  # gRPC and asyncio log there what nobody caught
    assert sum(arena.codes.values()) >= NUM_FRAMES
    assert set(arena.codes) >= {OK, INVALID, DAMAGED}
    assert arena.faults.keys() >= {fault.__name__ for fault in FAULTS}
    assert arena.num_texts > 0


def _fuzz(runner, arena, fingerprint):
    # What fails is one stream, which the message shows whole: there is nothing to shrink.
    @settings(max_examples=-(-NUM_FRAMES // _AT_ONCE), phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(fuzzed_streams(fingerprint), min_size=_AT_ONCE, max_size=_AT_ONCE))
    def fuzz(streams):
        runner.run(arena.play(streams))

    fuzz()
