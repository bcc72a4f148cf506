"""Replicas die in the middle of texts: callers see a pause and no error, and the text is the one that it would have been."""

import asyncio
import contextlib
import gc
import math
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.errors import InvalidInput, Unavailable
from cloud.service import VerifierServer
from cluster import passage
from cluster.gateway import GatewayServer
from cluster.router import Router
from edge.completer import Completer, Drafting
from edge.link import Endpoint
from edge.tuning.plan import FOR_EACH, RowsPlan, TreePlan
from tests.integration.cutting_relay import CuttingRelay
from tests.integration.test_streams_over_grpc import COUPLED, CUT_EVERY, NUM_TOKENS, complete, ids

BUDGET = 0.6
WAYS = {
    "a tree for each step": (COUPLED, Drafting(tree=TreePlan(6, 4, FOR_EACH))),
    "a stream of trees": (COUPLED, Drafting(tree=TreePlan(12, 6, 0.0))),
    "blocks": (Acceptance(), Drafting(rows=RowsPlan(2, 3))),
    "nothing drafted, coupled": (COUPLED, None),
    "nothing drafted": (Acceptance(), None),
}


def client_of(endpoint, pair, drafting):
    return Completer(endpoint, pair.tokenizer(), pair.drafter() if drafting else None, drafting)


def is_of_grpc(task):
    """A server of this process takes its next call in a new task each time."""
    return task.get_coro().__qualname__.startswith("AioServer.")


@asynccontextmanager
async def gateway_before(*addresses):
    """A gateway that leaves no task behind, and the edge's end of the wire to it."""
    before = asyncio.all_tasks()
    async with GatewayServer("127.0.0.1:0", Router(addresses)) as gateway:
        await gateway.ready()
        async with Endpoint(f"127.0.0.1:{gateway.port}") as endpoint:
            yield endpoint
    async with asyncio.timeout(10):
        while any(not is_of_grpc(task) for task in asyncio.all_tasks() - before):  # noqa: ASYNC110  # some end a little later
            await asyncio.sleep(0.01)


@pytest.fixture
async def verifier(small_pair):
    async with VerifierServer(str(small_pair.target), "127.0.0.1:0", memory_gib=0.1) as server:
        await server.loaded()
        yield server
        async with asyncio.timeout(10):
            while server.engine._residency._sessions:  # noqa: ASYNC110  # the engine tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def losable(verifier):
    """A gateway before two replicas that are lost whenever `relays` are cut. In truth they are one, and the links to it are lost."""
    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(CuttingRelay(f"127.0.0.1:{verifier.port}")) for _ in range(2)]
        endpoint = await stack.enter_async_context(gateway_before(*(relay.address for relay in relays)))
        yield Both(relays), endpoint


class Both:
    def __init__(self, relays):
        self.relays = relays

    def cut(self):
        for relay in self.relays:
            relay.cut()

    @property
    def refuses(self):
        return all(relay.refuses for relay in self.relays)

    @refuses.setter
    def refuses(self, refuses):
        for relay in self.relays:
            relay.refuses = refuses


@pytest.mark.parametrize(("acceptance", "drafting"), WAYS.values(), ids=list(WAYS))
async def test_a_text_whose_replica_is_lost_ten_times_is_the_same_and_its_edge_resumes_nothing(
    verifier, small_pair, acceptance, drafting, caplog
):
    async with losable(verifier) as (replicas, endpoint):
        whole = await complete(client_of(endpoint, small_pair, drafting), acceptance=acceptance)
        client = client_of(endpoint, small_pair, drafting)
        with caplog.at_level("INFO", logger=passage.__name__):
            moved = await complete(client, acceptance=acceptance, relay=replicas)
    assert ids(moved) == ids(whole)
    assert moved.text == whole.text
    assert moved.summary.num_tokens == NUM_TOKENS
    assert moved.summary.num_resumes == 0
    assert sum("was lost" in record.message for record in caplog.records) >= NUM_TOKENS / CUT_EVERY / 3


async def test_a_budget_holds_over_all_replicas_of_a_text_together(verifier, small_pair):
    acceptance = Acceptance(relaxation="certified", strength=0.3, budget=BUDGET)
    async with losable(verifier) as (replicas, endpoint):
        client = client_of(endpoint, small_pair, Drafting(rows=RowsPlan(3, 3)))
        for seed in range(2):
            moved = await complete(client, acceptance=acceptance, seed=seed, relay=replicas)
            assert moved.summary.num_resumes == 0
            assert 0.5 * BUDGET < math.fsum(token.divergence for token in moved.tokens) <= BUDGET


async def test_a_gateways_patience_has_an_end(verifier, small_pair, monkeypatch):
    monkeypatch.setattr(passage, "_PATIENCE_S", 0.3)
    async with losable(verifier) as (replicas, endpoint):
        client = client_of(endpoint, small_pair, Drafting(patience_s=0.0))
        with pytest.raises(Unavailable, match="cannot be reached"):
            await complete(client, relay=replicas, refuses=True)


async def test_what_is_wrong_with_a_request_is_asked_of_one_replica_alone(verifier, small_pair, caplog):
    async with losable(verifier) as (_, endpoint):
        client = client_of(endpoint, small_pair, None)
        with caplog.at_level("INFO", logger=passage.__name__), pytest.raises(InvalidInput, match="stop_ids"):
            await complete(client, stop_ids=(99,))
    assert not caplog.records


async def test_an_edge_that_goes_while_no_replica_is_left_leaves_nothing(verifier, small_pair, caplog):
    async with losable(verifier) as (replicas, endpoint):
        writing = asyncio.create_task(complete(client_of(endpoint, small_pair, None), relay=replicas, refuses=True))
        async with asyncio.timeout(10):
            while not any(relay.num_refused for relay in replicas.relays):  # noqa: ASYNC110  # a relay tells nobody
                await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    gc.collect()  # where a task's error that nobody asked for would be told
    assert not caplog.records


@asynccontextmanager
async def process_of(*verb):
    """A verb that serves, in a process of its own: the process and its address. It may be killed."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "cluster", *verb, "--listen", "127.0.0.1:0", stdout=PIPE)
    try:
        async with asyncio.timeout(120):
            line = (await process.stdout.readline()).decode()
        yield process, f"127.0.0.1:{line.split(' on port ')[1].split()[0].rstrip(';')}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Watched(Router):
    """Remembers where it sent the last stream."""

    def choose(self, opening, excluded=()):
        self.last = super().choose(opening, excluded)
        return self.last


class Kill:
    """`complete` cuts its relay every few tokens: instead of the first time, here, a process is killed, or the one that serves."""

    def __init__(self, *process, router=None, processes=None):
        self.process, self.router, self.processes, self.refuses = list(process), router, processes, False

    def cut(self):
        if self.router is not None:
            self.process, self.router = [self.processes[self.router.last]], None
        while self.process:
            with contextlib.suppress(ProcessLookupError):
                self.process.pop().kill()


async def test_texts_of_both_families_outlive_a_replica_that_is_killed(small_pair):
    verb = "verifier", "--model", str(small_pair.target), "--device", "cpu", "--memory", "0.05"
    async with AsyncExitStack() as stack:
        starting = [stack.enter_async_context(process_of(*verb)) for _ in range(3)]
        left = {address: process for process, address in await asyncio.gather(*starting)}
        for name in ("a stream of trees", "blocks"):
            acceptance, drafting = WAYS[name]
            router = Watched(left)
            async with GatewayServer("127.0.0.1:0", router) as gateway, Endpoint(f"127.0.0.1:{gateway.port}") as endpoint:
                await gateway.ready()
                whole = await complete(client_of(endpoint, small_pair, drafting), acceptance=acceptance)
                client = client_of(endpoint, small_pair, drafting)
                moved = await complete(client, acceptance=acceptance, relay=Kill(router=router, processes=left))
            dead = [address for address, process in left.items() if process.returncode is not None]
            assert len(dead) == 1
            del left[dead[0]]
            assert ids(moved) == ids(whole)
            assert len(ids(moved)) == NUM_TOKENS
            assert moved.summary.num_resumes == 0


async def test_a_text_goes_on_through_the_next_gateway_when_one_is_killed(small_pair, verifier):
    verb = "gateway", "--replica", f"127.0.0.1:{verifier.port}"
    async with process_of(*verb) as (first, address), process_of(*verb) as (_, other), Endpoint(address, other) as endpoint:
        for number, (acceptance, drafting) in enumerate(WAYS.values()):
            client = client_of(endpoint, small_pair, drafting)
            whole = await complete(client, acceptance=acceptance)
            moved = await complete(client, acceptance=acceptance, relay=Kill(first))
            assert ids(moved) == ids(whole)
            assert moved.summary.num_resumes == (number == 0)
            assert endpoint.address == other


async def test_gateways_that_are_gone_from_the_start_are_passed_over(small_pair, verifier):
    async with gateway_before(f"127.0.0.1:{verifier.port}") as there, Endpoint("127.0.0.1:1", "127.0.0.1:2", there.address) as endpoint:
        completion = await complete(client_of(endpoint, small_pair, None), max_tokens=4)
        assert len(ids(completion)) == 4
        assert endpoint.address == there.address
    async with Endpoint("127.0.0.1:1", "127.0.0.1:2") as endpoint:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:2"):
            await endpoint.describe()


@pytest.mark.slow
async def test_a_replica_that_stands_still_without_a_word_is_given_up(small_pair, verifier):
    verb = "verifier", "--model", str(small_pair.target), "--device", "cpu", "--memory", "0.05"
    async with process_of(*verb) as (process, address):
        router = Router([address])
        async with GatewayServer("127.0.0.1:0", router) as gateway, Endpoint(f"127.0.0.1:{gateway.port}") as endpoint:
            await gateway.ready()
            client = client_of(endpoint, small_pair, None)
            whole = await complete(client)
            router.replace([address])
            moved = await complete(client, relay=Stop(process, router, f"127.0.0.1:{verifier.port}"))
        process.kill()
    assert ids(moved) == ids(whole)
    assert moved.summary.num_resumes == 0


class Stop:
    """The replica is stopped, so that its connections stand open and say nothing; from then on there is another."""

    def __init__(self, process, router, other):
        self.process, self.router, self.other, self.refuses = process, router, other, False

    def cut(self):
        self.process.send_signal(signal.SIGSTOP)
        self.router.replace([self.other])
