"""While a decision is awaited the drafter thinks ahead: one caller at a time, and no longer than until a tree is wanted."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.block import Block, empty_block
from cactus_core.coupled import CoupledTree
from cactus_core.rules import COUPLED
from cactus_core.session import Decision, Finish, Hint, Limits, Request
from edge import completer, hinting
from edge.completer import Completer, Drafting
from edge.drafting.drafter import ThinksAhead
from edge.hinting import speculate_along
from edge.rounds import Round
from edge.summary import Summary
from edge.tuning.forecasting import Objective
from edge.tuning.plan import FOR_EACH, OFF, TreePlan
from edge.tuning.tree_tuner import TreeTuner

FOUR = TreePlan(4, 4, FOR_EACH)


@pytest.fixture(autouse=True)
def _everybody_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hinting, "_NEAR_S", -math.inf)


class Plain:
    """Counts upwards from the text's last token, four times; refuses a second caller."""

    vocab_size, support_size, max_positions = 1000, 1, 1000

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_busy = threading.Lock()

    def draft(self, text: Sequence[int] | Any, **_: Any) -> Block:
        return empty_block(len(text))

    def draft_tree(self, text: Sequence[int] | Any, **_: Any) -> CoupledTree:
        assert self.is_busy.acquire(blocking=False)
        self.calls.append(f"draft {text[-1]}")
        self.is_busy.release()
        return CoupledTree(len(text), text[-1] + np.arange(1, 5), np.arange(-1, 3))


class Thinker(Plain):
    """Thinks until it is told to stop, or fails at once."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.fails, self.began = fails, threading.Event()

    def think_ahead(self, num_nodes: int, should_stop: Callable[[], bool]) -> None:
        with self.is_busy:
            self.calls.append(f"think {num_nodes}")
            self.began.set()
            if self.fails:
                raise RuntimeError("no thought")
            stop = threading.Event()
            while not should_stop():
                stop.wait(0.001)
            self.calls.append("stop")


class Cloud:
    """Gives the next decision when it is told to: two tokens that were drafted and one that was not."""

    def __init__(self) -> None:
        self.hints: asyncio.Queue[Hint] = asyncio.Queue()
        self._due: asyncio.Queue[Decision] = asyncio.Queue()

    async def send_hint(self, hint: Hint) -> int:
        self.hints.put_nowait(hint)
        return 10

    async def next_decision(self) -> Decision:
        return await self._due.get()

    def decide(self, number: int, base: int, last: int, finish: Finish | None = None) -> None:
        accepted = last + 1, last + 2
        self._due.put_nowait(
            Decision(number, base, 0, 2, 100 * (number + 1), (0.0,) * 3, (0.0,) * 3, finish, 0.0, 0.001, accepted=accepted)
        )


def asked() -> Request:
    return Request((7,), 60, 1, "", acceptance=Acceptance(COUPLED))


def going(cloud: Cloud, drafter: Any, failures: list[str], *, plan: TreePlan = FOUR, ahead: bool = True) -> Any:
    tuner = TreeTuner(fixed=plan)
    return speculate_along(cloud, asked(), drafter, tuner, Limits(), lambda error: failures.append(str(error)), ahead=ahead)


async def began(drafter: Thinker) -> None:
    assert await asyncio.to_thread(drafter.began.wait, 10)
    drafter.began.clear()


async def test_it_begins_once_a_tree_is_sent_and_ends_when_the_next_is_wanted() -> None:
    cloud, drafter, failures = Cloud(), Thinker(), []
    async with aclosing(going(cloud, drafter, failures)) as rounds:
        coming = asyncio.ensure_future(anext(rounds))
        await began(drafter)
        assert cloud.hints.get_nowait().tree.base == 1
        cloud.decide(1, 1, 7)
        done: Round = await coming
        assert [token.id for token in done.tokens] == [8, 9, 200]
        coming = asyncio.ensure_future(anext(rounds))
        await began(drafter)
        assert cloud.hints.get_nowait().tree.base == 4
        cloud.decide(2, 4, 200, Finish.STOP)
        assert (await coming).finish is Finish.STOP
    assert drafter.calls == ["draft 7", "think 32", "stop", "draft 200", "think 32", "stop"]
    assert not failures


async def test_closing_stops_it_and_waits_for_it() -> None:
    cloud, drafter = Cloud(), Thinker()
    rounds = going(cloud, drafter, [])
    coming = asyncio.ensure_future(anext(rounds))
    await began(drafter)
    coming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await coming
    assert drafter.calls[-1] == "stop"
    assert not drafter.is_busy.locked()


async def test_failing_at_it_is_to_fail() -> None:
    cloud, drafter, failures = Cloud(), Thinker(fails=True), []
    async with aclosing(going(cloud, drafter, failures)) as rounds:
        coming = asyncio.ensure_future(anext(rounds))
        await began(drafter)
        cloud.decide(1, 1, 7)
        await coming
        coming = asyncio.ensure_future(anext(rounds))
        cloud.hints.get_nowait()
        last = await cloud.hints.get()
        assert (len(last.tree.tokens), last.wait_s) == (0, 0.0)  # the cloud decodes on alone
        cloud.decide(2, 4, 200, Finish.STOP)
        await coming
    assert failures == ["no thought"]
    assert drafter.calls == ["draft 7", "think 32"]


@pytest.mark.parametrize(
    ("drafter", "ahead", "plan"),
    [(Thinker(), False, replace(FOUR, wait_s=0.0)), (Plain(), True, FOUR), (Thinker(), True, OFF)],
    ids=["neither asked for nor waited for", "not able to", "not drafting"],
)
async def test_otherwise_it_idles(drafter: Plain, ahead: bool, plan: TreePlan) -> None:  # a parameter
    cloud = Cloud()
    async with aclosing(going(cloud, drafter, [], plan=plan, ahead=ahead)) as rounds:
        coming = asyncio.ensure_future(anext(rounds))
        number = 0
        if plan.num_nodes:
            number = (await cloud.hints.get()).round
            await asyncio.sleep(0.02)
        cloud.decide(number, 1, 7, Finish.STOP)
        await coming
    assert drafter.calls == ["draft 7"] * bool(plan.num_nodes)


@pytest.mark.parametrize(("near_s", "ahead"), [(math.inf, True), (-math.inf, False)], ids=["near a verifier", "not asked for"])
async def test_where_it_is_waited_for_it_does_what_takes_no_run(
    monkeypatch: pytest.MonkeyPatch, near_s: float, ahead: bool
) -> None:  # a parameter
    monkeypatch.setattr(hinting, "_NEAR_S", near_s)
    cloud, drafter = Cloud(), Thinker()
    async with aclosing(going(cloud, drafter, [], ahead=ahead)) as rounds:
        coming = asyncio.ensure_future(anext(rounds))
        await cloud.hints.get()
        cloud.decide(1, 1, 7)
        await coming
        coming = asyncio.ensure_future(anext(rounds))
        await cloud.hints.get()
        await asyncio.sleep(0.02)
        cloud.decide(2, 4, 200, Finish.STOP)
        await coming
    assert drafter.calls == ["draft 7", "think 0", "stop", "draft 200", "think 0", "stop"]


@pytest.mark.parametrize(
    ("drafting", "ahead"),
    [(Drafting(), False), (Drafting(ahead=True), True), (Drafting(objective=Objective.ENERGY, ahead=True), False)],
)
def test_a_client_thinks_ahead_where_it_is_told_to_unless_it_saves_energy(
    monkeypatch: pytest.MonkeyPatch,
    drafting: Drafting,
    ahead: bool,  # a parameter
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(completer, "speculate_along", lambda *_, ahead: told.append(ahead))
    nothing: Any = None
    Completer(nothing, nothing, Thinker(), drafting)._family(nothing, asked(), Limits(), Summary())
    assert told == [ahead]


def test_who_can_is_known() -> None:
    assert isinstance(Thinker(), ThinksAhead)
    assert not isinstance(Plain(), ThinksAhead)
