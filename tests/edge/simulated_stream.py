"""A cloud, a link and a drafter in virtual time, for tuners: whatever they cost is given, and nothing is waited for.

How well the drafter guesses is given by q, one number in (0, 1] a position: of a tree drafted at some base, the true path's k-th node is
about the (1 / product of its q's)-th best. The simulation plays the protocol of proto/: the newest tree counts, from where the
text now ends; with a wait the cloud holds, without one it decodes on.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cactus_core.coupled import CoupledTree
from edge.plan import TreePlan
from edge.survival import Foretold
from edge.tree_tuner import TreeTuner


@dataclass(frozen=True)
class World:
    """What things take, in seconds; `round_trip_s` by virtual time."""

    round_trip_s: Callable[[float], float]
    step_s: Callable[[int], float]
    draft_s: Callable[[int], float]
    mean_q: float = 0.75
    seed: int = 0

    def qualities(self, num_tokens: int) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        return np.clip(rng.beta(3 * self.mean_q, 3 * (1 - self.mean_q), num_tokens + 64), 1e-3, 1.0)


@dataclass
class Run:
    """When each token came to the edge, and under which plan."""

    times: list[float]
    plans: list[TreePlan]

    def pace(self, first: int = 0, last: int | None = None) -> float:
        times = self.times[first:last]
        return (len(times) - 1) / (times[-1] - times[0])


def places_of(q: np.ndarray, base: int, plan: TreePlan) -> list[int]:
    """Of the true path's nodes in a tree drafted at `base`, as far as they are in it."""
    costs = np.cumprod(1.0 / q[base : base + plan.max_depth])
    places, last = [], -1
    for cost in costs:
        last = max(last + 1, int(cost) - 1)
        if last >= plan.num_nodes:
            break
        places.append(last)
    return places


def tree_of(places: list[int], plan: TreePlan) -> CoupledTree:
    """A tree whose true path, of tokens 1, lies at `places`; the other nodes are wrong siblings of it."""
    tokens, parents = np.arange(2, 2 + plan.num_nodes), np.full(plan.num_nodes, -1)
    above = -1
    for place in places:
        tokens[place], parents[place], above = 1, above, place
    return CoupledTree(0, tokens, parents)


def run(world: World, tuner: TreeTuner, num_tokens: int) -> Run:
    """The true text is all 1s; `tuner` is told what an edge would tell it."""
    q = world.qualities(num_tokens)
    events: list[tuple[float, int, str, tuple]] = []
    count = itertools.count()
    result = Run([], [])
    # The cloud's: the text's length, the newest tree (base, places, nodes, when it came, its number), until when it holds.
    length, tree, wait_s, is_busy, decided_at = 0, (0, [], 0, 0.0, 0), 0.0, False, 0.0
    # The edge's.
    known, drafting, last_base, number, acknowledged, last_at, told_wait_s = 0, False, -1, 0, 0, None, 0.0
    sent: dict[int, float] = {}
    followed: list[tuple[int, Foretold]] = []

    def at(when, what, *values):
        heapq.heappush(events, (when, next(count), what, values))

    def live(where):
        base, places, nodes, *_ = tree
        done = where - base
        return places[done:], max(nodes - done * nodes // max(len(places), 1), 0) if done < len(places) else 0

    def step(now):
        nonlocal is_busy
        places, nodes = live(length)
        if is_busy or length >= num_tokens:
            return
        if not places and wait_s and now < decided_at + wait_s and tree[0] != length:
            at(decided_at + wait_s, "hold over")
            return
        is_busy = True
        took = world.step_s(nodes)
        at(now + took, "decided", len(places) + 1, nodes, took, tree[4], now + took - tree[3])

    def draft(now):
        nonlocal drafting, last_base, number, told_wait_s
        if not drafting and told_wait_s and not tuner.current.num_nodes:
            number, told_wait_s = number + 1, 0.0
            sent[number] = now
            at(now + world.round_trip_s(now) / 2, "hint", (known, [], 0, now + world.round_trip_s(now) / 2, number), 0.0)
        if drafting or last_base == known or known >= num_tokens - 1:
            return
        is_probe = tuner.wants_probe
        plan = tuner.probe if is_probe else tuner.to_draft()
        if plan.num_nodes:
            drafting, last_base = True, known
            took = world.draft_s(plan.num_nodes)
            at(now + took, "drafted", known, plan, is_probe, took)

    step(0.0)
    draft(0.0)
    while events:
        now, _, what, values = heapq.heappop(events)
        half = world.round_trip_s(now) / 2
        if what == "decided":
            emitted, nodes, took, newest, age = values
            is_busy, decided_at = False, now
            at(now + half, "told", min(emitted, num_tokens - length), nodes, took, newest, age)
            length = min(length + emitted, num_tokens)
            step(now)
        elif what == "hold over":
            step(now)
        elif what == "hint":
            if values[0][4] > tree[4]:
                tree, wait_s = values
            step(now)
        elif what == "told":
            emitted, nodes, took, newest, age = values
            if newest > acknowledged:
                tuner.came_back(now - sent[newest] - age)
                acknowledged = newest
            known += emitted
            for _, foretold in followed:
                foretold.follow([1] * emitted)
            for _, foretold in followed:
                if foretold.is_over:
                    tuner.came_true(foretold)
            followed = [(base, each) for base, each in followed if not each.is_over]
            tuner.decided(nodes, emitted, took, 0.0 if last_at is None else now - last_at)
            last_at = now
            result.times += [now] * emitted
            result.plans += [tuner.current] * emitted
            draft(now)
        elif what == "drafted":
            base, plan, is_probe, took = values
            drafting = False
            places = places_of(q, base, plan)
            foretold = Foretold(tree_of(places, plan))
            foretold.follow([1] * (known - base))
            followed.append((base, foretold))
            tuner.drafted(plan.num_nodes, took, 100)
            done, plan = known - base, TreePlan(0, 0, 0.0) if is_probe else tuner.current
            places = [place for place in places[done:] if place < plan.num_nodes]
            if is_probe or plan.wait_s or places:
                number, told_wait_s = number + 1, plan.wait_s
                sent[number] = now
                at(now + half, "hint", (known, places, plan.num_nodes, now + half, number), plan.wait_s)
            draft(now)
        if length >= num_tokens and known >= num_tokens:
            break
    return result
