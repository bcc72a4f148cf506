"""The stream's loop over a scripted cloud: whatever is drafted, and whenever, the text comes out whole."""

import asyncio
import math
import threading
from contextlib import aclosing
from itertools import cycle
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.coupled import CoupledTree, empty_tree, rerooted
from cactus_core.errors import Unavailable
from cactus_core.session import Decision, Finish, Hint, Limits, Request
from edge.hinting import speculate_along
from edge.rounds import Origin
from edge.tuning.plan import FOR_EACH, OFF, TreePlan
from edge.tuning.tree_tuner import PROBED, TreeTuner

PROMPT = (5, 6, 7)
TRUTH = [*PROMPT, *range(10, 60)]
WRONG = 1000
STREAM, WAIT = TreePlan(6, 4, 0.0), TreePlan(6, 4, FOR_EACH)
LIMITS = Limits()


async def ticks(number):
    for _ in range(number):
        await asyncio.sleep(0)


class Cloud:
    """Plays the protocol in memory for a text that is known beforehand. A decision takes as many turns of the loop as `takes` says in
    turn, a wait that is not for ever ten; decisions are made whether or not they are read.
    """

    def __init__(self, request, takes=(1,)):
        self.request, self.text, self.takes = request, [*request.prompt, *request.committed], cycle(takes)
        self.newest = Hint(0, empty_tree(0), 0.0 if request.decode_alone else math.inf)
        self.hints, self.origins = [], []
        self.seen = len(self.text)  # by the edge, for certain
        self.heard, self.decisions = asyncio.Event(), asyncio.Queue()

    async def send_hint(self, hint):
        assert hint.round == len(self.hints) + 1
        assert self.seen <= hint.tree.base <= len(self.text)
        self.hints.append(hint)
        self.newest = hint
        self.heard.set()
        return 10

    async def next_decision(self):
        decision = await self.decisions.get()
        if isinstance(decision, Exception):
            raise decision
        return decision

    def in_force(self):
        tree = self.newest.tree
        return rerooted(tree, np.array(self.text[tree.base :], dtype=np.int64))

    async def decode(self):
        last = len(self.request.prompt) + self.request.max_tokens
        while len(self.text) < last:
            for _ in range(10):
                if self.in_force().tokens.size or self.newest.tree.base == len(self.text) or not self.newest.wait_s:
                    break
                self.heard.clear()
                await (self.heard.wait() if self.newest.wait_s == math.inf else ticks(1))
            newest, tree = self.newest, self.in_force()
            await ticks(next(self.takes))
            self.decisions.put_nowait(self.decide(newest.round, tree, last))

    def decide(self, number, tree, last):
        base, accepted = len(self.text), []
        left = tree
        while (tree_left := rerooted(left, np.array([TRUTH[left.base]]))).base < last and TRUTH[left.base] in left.tokens[left.parents < 0]:
            accepted.append(TRUTH[left.base])
            left = tree_left
        final = TRUTH[base + len(accepted)]
        came_as = Origin.DECODED if not tree.tokens.size else Origin.CORRECTED if left.tokens.size else Origin.BONUS
        self.origins += [Origin.ACCEPTED] * len(accepted) + [came_as]
        self.text += [*accepted, final]
        num_emitted = len(accepted) + 1
        finish = Finish.LENGTH if len(self.text) == last else None
        zeros = (0.0,) * num_emitted
        return Decision(number, base, 0, len(accepted), final, zeros, zeros, finish, 0.0, 0.001, accepted=tuple(accepted))


class Guessing:
    """Knows the text, but for the positions where it `errs`; adds a wrong guess at every second. Fails at call number `fails_at`."""

    vocab_size, support_size = 2000, 1

    def __init__(self, errs=(), max_positions=100, fails_at=None):
        self.errs, self.max_positions, self.fails_at = set(errs), max_positions, fails_at
        self.asked, self.num_callers = [], 0

    def draft_tree(self, text, *, num_nodes, max_depth, params, seed, num_prompt, s_per_token):
        self.num_callers += 1
        assert self.num_callers == 1
        assert list(text) == TRUTH[: len(text)]
        assert num_prompt == len(PROMPT)
        assert len(text) + max_depth <= self.max_positions
        self.asked.append((len(text), num_nodes, max_depth))
        try:
            if len(self.asked) == self.fails_at:
                raise RuntimeError("no more memory")
            return self.tree(len(text), num_nodes, max_depth)
        finally:
            self.num_callers -= 1

    def tree(self, base, num_nodes, max_depth):
        tokens, parents, above = [], [], -1
        for position in range(base, min(base + max_depth, len(TRUTH))):
            tokens.append(WRONG + position if position in self.errs else TRUTH[position])
            parents.append(above)
            if position % 2:
                tokens.append(WRONG + 500 + position)
                parents.append(above)
            above = len(tokens) - 1 - position % 2
        return CoupledTree(base, np.array(tokens[:num_nodes], dtype=np.int64), np.array(parents[:num_nodes], dtype=np.int64))


class Restless:
    """A tuner that changes its mind with every decision."""

    wants_probe = False
    s_per_token = 0.001

    def __init__(self, plans):
        self.plans = cycle(plans)
        self.current = next(self.plans)
        self.told = []

    def to_draft(self):
        return self.current

    def decided(self, *figures):
        self.current = next(self.plans)

    def came_true(self, foretold):
        self.told.append(foretold)

    def drafted(self, *figures, num_read): ...

    def sent(self, *figures): ...

    def reconsider(self): ...

    def came_back(self, round_trip_s):
        assert round_trip_s > -1.0

    def gave_up(self):
        self.plans, self.current = cycle([OFF]), OFF


def not_in_a_thread(takes):
    """Drafts that are done after so many turns of the loop: every order of events can be had, and had again."""
    lengths = cycle(takes)

    async def drafted(call):
        await ticks(next(lengths))
        return call()

    return patch("edge.hinting._in_thread", lambda call: asyncio.ensure_future(drafted(call)))


def request_of(**others):
    return Request(**{"prompt": PROMPT, "max_tokens": 40, "seed": 0, "fingerprint": "f", "decode_alone": True, **others})


def told(error):
    raise error


async def complete(drafter, tuner, *, request=None, limits=LIMITS, decision_takes=(1,), draft_takes=(1,), on_failure=told):
    """The rounds of a text that was checked, and the cloud that decided them."""
    cloud = Cloud(request or request_of(), decision_takes)
    decoding, done = asyncio.create_task(cloud.decode()), []
    with not_in_a_thread(draft_takes):
        async with asyncio.timeout(10), aclosing(speculate_along(cloud, cloud.request, drafter, tuner, limits, on_failure)) as rounds:
            async for each in rounds:
                cloud.seen += len(each.tokens)
                done.append(each)
    await decoding
    tokens = [token for each in done for token in each.tokens]
    assert [*cloud.request.prompt, *cloud.request.committed, *(token.id for token in tokens)] == TRUTH[
        : len(PROMPT) + cloud.request.max_tokens
    ]
    assert [token.origin for token in tokens] == cloud.origins
    assert done[-1].finish is Finish.LENGTH
    return cloud, done


plans = st.sampled_from([OFF, STREAM, WAIT, TreePlan(3, 8, 0.01), TreePlan(1, 1, FOR_EACH), TreePlan(5, 0, FOR_EACH)])
few = st.lists(st.integers(0, 6), min_size=1, max_size=5)


@given(st.sets(st.integers(3, 60)), st.lists(plans, min_size=1, max_size=4), few, few, st.integers(2, 60), st.integers(0, 3))
def test_the_text_is_whole_whatever_is_drafted_and_whenever(errs, restless, decision_takes, draft_takes, max_positions, num_committed):
    drafter, tuner = Guessing(errs, max_positions), Restless(restless)
    request = request_of(committed=tuple(TRUTH[3 : 3 + num_committed]))
    limits = Limits(max_rows=2, max_length=5)
    times = {"decision_takes": decision_takes, "draft_takes": draft_takes}
    cloud, _ = asyncio.run(complete(drafter, tuner, request=request, limits=limits, **times))
    most = max(plan.num_nodes for plan in restless)
    for hint in cloud.hints:
        deepest = int(hint.tree.depths.max(initial=0))
        assert len(hint.tree.tokens) <= most
        assert deepest <= 5
        if deepest:
            assert hint.tree.base + deepest <= min(len(PROMPT) + request.max_tokens - 1, max_positions)


@given(st.sets(st.integers(3, 60)), few, few, st.sampled_from(["latency", "cost"]))
def test_a_tuner_that_learns_meets_a_stream_that_is_whole(errs, decision_takes, draft_takes, objective):
    tuner = TreeTuner(objective)
    asyncio.run(complete(Guessing(errs), tuner, decision_takes=decision_takes, draft_takes=draft_takes))
    assert tuner._known.draft
    assert tuner._known.text.num_drafts > 0


async def test_every_tree_that_is_waited_for_stands_to_its_end():
    cloud, done = await complete(Guessing(), TreeTuner(fixed=WAIT), request=request_of(decode_alone=False))
    # A chain of four true guesses with two wrong ones, and the target's own.
    assert [len(each.tokens) for each in done] == [5] * 8
    assert [token.origin for token in done[0].tokens] == [Origin.ACCEPTED] * 4 + [Origin.BONUS]
    assert [(each.num_drafted, each.length, each.num_accepted) for each in done[:2]] == [(6, 4, 4)] * 2
    assert [hint.tree.base for hint in cloud.hints] == [*range(3, 43, 5)]


async def test_a_tree_is_cut_to_what_follows_the_text_before_it_is_sent():
    cloud, _ = await complete(Guessing(), TreeTuner(fixed=STREAM), decision_takes=(3,), draft_takes=(6,))
    drafter = Guessing()
    assert any(len(hint.tree.tokens) for hint in cloud.hints[1:])
    for hint in cloud.hints:
        whole = [
            rerooted(drafter.tree(base, 6, 4), np.array(TRUTH[base : hint.tree.base])) for base in range(hint.tree.base + 1) if base > 2
        ]
        assert any(np.array_equal(tree.tokens, hint.tree.tokens) and np.array_equal(tree.parents, hint.tree.parents) for tree in whole)


async def test_dead_trees_are_not_sent_where_nobody_waits():
    """But for one, which tells how long the round trip is."""
    cloud, done = await complete(Guessing(errs=range(60)), TreeTuner(fixed=STREAM), draft_takes=(9,))
    assert [len(hint.tree.tokens) for hint in cloud.hints] == [0]
    assert {token.origin for each in done for token in each.tokens} == {Origin.DECODED}


async def test_no_more_is_sent_than_the_plan_says_though_more_is_drafted_to_learn():
    class Curious(Restless):
        def to_draft(self):
            return TreePlan(40, 12, 0.0)

    drafter, tuner = Guessing(), Curious([TreePlan(3, 12, FOR_EACH)])
    cloud, _ = await complete(drafter, tuner, request=request_of(decode_alone=False))
    assert max(num_nodes for _, num_nodes, _ in drafter.asked) == 40
    assert max(len(hint.tree.tokens) for hint in cloud.hints) == 3
    assert max(foretold.num_nodes for foretold in tuner.told) > 3


async def test_the_last_token_is_not_drafted_and_the_cloud_is_let_go():
    cloud, _ = await complete(Guessing(), TreeTuner(fixed=WAIT), request=request_of(max_tokens=6, decode_alone=False))
    assert [(hint.tree.base, hint.wait_s) for hint in cloud.hints] == [(3, FOR_EACH), (8, 0.0)]


async def test_a_full_drafter_lets_the_cloud_go():
    cloud, done = await complete(Guessing(max_positions=12), TreeTuner(fixed=WAIT))
    assert cloud.hints[-1].wait_s == 0.0
    assert not len(cloud.hints[-1].tree.tokens)
    assert [len(each.tokens) for each in done[-20:]] == [1] * 20


async def test_turning_off_lets_the_cloud_go():
    tuner = Restless([WAIT, WAIT, WAIT, *[OFF] * 50])
    cloud, _ = await complete(Guessing(), tuner)
    assert [hint.wait_s for hint in cloud.hints][-1] == 0.0


@pytest.mark.parametrize("plan", [STREAM, WAIT], ids=["stream", "wait"])
@pytest.mark.parametrize("fails_at", [1, 2, 4])
async def test_a_drafter_that_fails_is_told_of_once_and_leaves_the_cloud_alone(plan, fails_at):
    errors, drafter, tuner = [], Guessing(fails_at=fails_at), TreeTuner(fixed=plan)
    _, done = await complete(drafter, tuner, on_failure=errors.append)
    assert [str(error) for error in errors] == ["no more memory"]
    assert len(drafter.asked) == fails_at
    assert tuner.current == OFF
    assert done[-1].tokens[0].origin is Origin.DECODED


async def test_probes_are_drafted_and_followed_and_their_first_nodes_sent():
    class Probing(Restless):
        num_probes = 0

        @property
        def wants_probe(self):
            return self.num_probes < 2

        @property
        def probe(self):
            self.num_probes += 1
            return TreePlan(20, 10, 0.0)

    drafter, tuner = Guessing(), Probing([OFF])
    cloud, _ = await complete(drafter, tuner)
    assert [num_nodes for _, num_nodes, _ in drafter.asked] == [20, 20]
    assert [hint.wait_s for hint in cloud.hints] == [0.0] * 2
    assert all(0 < len(hint.tree.tokens) <= PROBED.num_nodes for hint in cloud.hints)  # less what came true while it was drafted
    assert [len(foretold.places) for foretold in tuner.told] == [10, 10]


class Slow(Guessing):
    """In a thread of its own, until `go_on` is set."""

    def __init__(self):
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def draft_tree(self, text, **asked):
        self.begun.set()
        self.go_on.wait(10)
        return super().draft_tree(text, **asked)


async def test_whoever_stops_early_leaves_no_task_and_no_busy_drafter():
    before = asyncio.all_tasks()
    cloud, drafter = Cloud(request_of()), Slow()
    decoding = asyncio.create_task(cloud.decode())
    rounds = speculate_along(cloud, cloud.request, drafter, TreeTuner(fixed=STREAM), LIMITS, told)
    await anext(rounds)
    assert await asyncio.to_thread(drafter.begun.wait, 10)
    asyncio.get_running_loop().call_later(0.05, drafter.go_on.set)
    await rounds.aclose()
    assert drafter.go_on.is_set()
    assert drafter.num_callers == 0
    await decoding
    assert asyncio.all_tasks() == before


async def test_a_link_that_is_lost_ends_the_rounds_at_once_and_leaves_no_task():
    before = asyncio.all_tasks()
    cloud = Cloud(request_of())
    cloud.decisions.put_nowait(Unavailable("the link was cut"))
    with pytest.raises(Unavailable):
        await anext(speculate_along(cloud, cloud.request, Guessing(), TreeTuner(fixed=WAIT), LIMITS, told))
    assert asyncio.all_tasks() == before
