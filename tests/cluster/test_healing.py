"""A cluster on real Ray whose parts are killed, drained and ended: texts go on, parts come back, nothing is left."""

import asyncio
import contextlib
import os
import re
import signal
import time

import pytest

from cactus_core.errors import Unavailable
from edge.completer import Completer, Drafting
from edge.link import Endpoint
from edge.tuning.plan import FOR_EACH, TreePlan
from tests.cluster.conftest import Cactus
from tests.integration.test_streams_over_grpc import NUM_TOKENS, complete, ids

pytestmark = pytest.mark.slow  # Ray starts and restarts: minutes
PATIENCE_S = 60.0  # a busy machine takes its time to start a process


class Fleet:
    """What `cactus up` has started, by what `cactus status` says of it."""

    def __init__(self, cactus, lines):
        self.cactus = cactus
        self.endpoints = re.findall(r"--endpoint (\S+)", lines[1])
        self.address = re.search(r"Ray is at ([^)]+)\)", lines[2])[1]

    def run(self, verb, *arguments):
        return self.cactus.run(verb, *arguments, "--address", self.address)

    def parts(self):
        """By name: state, what it serves, where, and its process."""
        status, out, error = self.run("status")
        assert status == 0, error
        found = {}
        for line in out.splitlines()[1:]:
            name, state, *rest = re.split(r"\s{2,}", line.strip())
            found[name] = {"state": state, **dict(zip(("serves", "at", "pid", "texts"), rest, strict=False))}
        return found

    def wait_for(self, is_so):
        deadline = time.monotonic() + PATIENCE_S
        while not is_so(parts := self.parts()):
            assert time.monotonic() < deadline, parts
        return parts

    def wait_until_whole(self):
        def is_whole(parts):
            replicas = [part["state"] for name, part in parts.items() if name.startswith("replica")]
            gateways = [part.get("serves") for name, part in parts.items() if name.startswith("gateway")]
            return replicas == ["serving", "serving"] and gateways == ["2 replicas", "2 replicas"]

        return self.wait_for(is_whole)


@contextlib.contextmanager
def brought_up(cactus, *arguments):
    with cactus.start("up", "--listen", "127.0.0.1:0", "--device", "cpu", *arguments) as process:
        try:
            lines = [process.stdout.readline() for _ in range(3)]
            assert lines[0].startswith("serving target"), lines  # what it says in error it says to whoever reads until it ends
            yield Fleet(cactus, lines), process
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def fleet(small_pair):
    cactus = Cactus()
    shape = "--model", small_pair.target, "--memory", 0.05, "--replicas", 2, "--gateways", 2
    with brought_up(cactus, *shape) as (fleet, process):
        yield fleet
        status, out, error = fleet.run("down")
        assert (status, out, error) == (0, "4 part(s) ended\n", "")
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (0, "")
    assert cactus.left_running() == []


class Kill:
    """`complete` cuts its relay every few tokens: the first time, instead, a part of `fleet` that has a text is killed."""

    def __init__(self, fleet, prefix):
        self.fleet, self.prefix, self.killed, self.refuses = fleet, prefix, None, False

    def cut(self):
        if self.killed is None:
            busy = {name: part for name, part in self.fleet.parts().items() if name.startswith(self.prefix) and part["texts"] != "0"}
            [(self.killed, part)] = busy.items()
            os.kill(int(part["pid"]), signal.SIGKILL)


def client_of(endpoint, pair):
    return Completer(endpoint, pair.tokenizer(), pair.drafter(), Drafting(tree=TreePlan(6, 4, FOR_EACH)))


@pytest.mark.parametrize(("prefix", "num_resumes"), [("replica", 0), ("gateway", 1)])
async def test_a_part_that_is_killed_under_a_text_is_a_pause_and_comes_back(fleet, small_pair, prefix, num_resumes):
    before = await asyncio.to_thread(fleet.wait_until_whole)
    kill = Kill(fleet, prefix)
    async with Endpoint(*fleet.endpoints) as endpoint:
        whole = await complete(client_of(endpoint, small_pair))
        moved = await complete(client_of(endpoint, small_pair), relay=kill)
    assert ids(moved) == ids(whole)
    assert len(ids(moved)) == NUM_TOKENS
    assert moved.summary.num_resumes == num_resumes
    after = await asyncio.to_thread(fleet.wait_until_whole)
    assert after.keys() == before.keys()
    assert after[kill.killed]["pid"] != before[kill.killed]["pid"]
    if prefix == "gateway":
        assert after[kill.killed]["at"] == before[kill.killed]["at"]
        async with Endpoint(after[kill.killed]["at"]) as again:
            assert ids(await complete(client_of(again, small_pair))) == ids(whole)


async def test_a_drained_replica_goes_and_another_takes_its_place_while_texts_are_written(fleet, small_pair):
    before = await asyncio.to_thread(fleet.wait_until_whole)
    name = min(part for part in before if part.startswith("replica"))
    status, _, error = fleet.run("drain", "nobody")
    assert status == 1
    assert f"there are: {name}" in error
    assert fleet.run("drain", name)[0] == 0
    gone = asyncio.create_task(asyncio.to_thread(fleet.wait_for, lambda parts: name not in parts))
    texts = set()
    async with Endpoint(*fleet.endpoints) as endpoint:
        while not gone.done():
            texts.add(tuple(ids(await complete(client_of(endpoint, small_pair)))))
    await gone
    assert len(texts) == 1
    after = await asyncio.to_thread(fleet.wait_until_whole)
    [another] = {part for part in after if part.startswith("replica")} - {*before}
    os.kill(int(after[another]["pid"]), signal.SIGKILL)  # whoever took its place comes back as well
    await asyncio.to_thread(fleet.wait_for, lambda parts: parts.get(another, {}).get("pid") not in {None, after[another]["pid"]})
    await asyncio.to_thread(fleet.wait_until_whole)


def test_what_does_not_answer_is_said_in_one_line(cactus):
    for verb in ("status", "down"):
        status, out, error = cactus.run(verb, "--address", "127.0.0.1:1")
        assert (status, out) == (1, "")
        assert "no Ray cluster could be had at 127.0.0.1:1" in error.splitlines()[-1]


@pytest.mark.parametrize("num_processes", [2, 8], ids=["while Ray starts", "while models load"])
def test_a_cluster_that_is_terminated_before_it_serves_leaves_nothing_running(cactus, num_processes):
    with cactus.start("up", "--listen", "127.0.0.1:0", "--device", "cpu") as process:
        deadline = time.monotonic() + PATIENCE_S
        while cactus.num_running < num_processes:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        out, error = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in error
    assert cactus.left_running() == []


async def test_each_of_two_models_is_served_by_its_own_replicas(cactus, small_pair):
    with brought_up(cactus, "--model", small_pair.target, "--model", small_pair.target.parent / "checkpoint") as (fleet, _):
        assert {part["serves"] for part in fleet.parts().values()} == {"target", "checkpoint", "2 replicas"}
        async with Endpoint(*fleet.endpoints) as endpoint:
            assert (await endpoint.describe()).model == "target"
    async with Endpoint(*fleet.endpoints) as endpoint:
        with pytest.raises(Unavailable):
            await endpoint.describe()
    assert cactus.left_running() == []
