"""A cloud, a link and a drafter in virtual time, for tuners: whatever they cost is given, and nothing is waited for.

How well the drafter guesses is given or recorded: where in a tree that is drafted at some base the nodes of the true path are. The cloud
plays the protocol of proto/: the newest tree counts, from where the text now ends; with a wait the cloud holds, without one it decodes
on. The edge does and tells its tuner what `edge.hinting` does and tells.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from cactus_core.coins import Floats
from cactus_core.coupled import CoupledTree
from edge.tuning.foretold import Foretold
from edge.tuning.plan import DEEPEST, TreePlan
from edge.tuning.tree_tuner import PROBED, TreeTuner

_FRAME_BYTES, _NODE_BYTES, _BESIDES = 20, 2, 40  # of a tree: its frame, each node, and what goes with a message
_TRUE = 1  # every token of the text; wrong guesses are other numbers

Places: TypeAlias = tuple[int, ...]  # of nodes in a tree, one below the other


@dataclass(frozen=True)
class World:
    """What things take, in seconds: a round trip by virtual time, a step by the nodes it reads, a draft by the nodes it has.

    How well the drafter guesses is one number q in (0, 1] a position, of the mean `mean_q`: of a tree drafted at some base, the true path's
    k-th node is about the (1 / product of its q's)-th best.
    """

    round_trip_s: Callable[[float], float]
    step_s: Callable[[int], float]
    draft_s: Callable[[int], float]
    mean_q: float = 0.75
    seed: int = 0

    def true_paths(self, num_tokens: int) -> Sequence[Places]:
        """Of a tree drafted at each position, however large: the places of the true path's nodes."""
        rng = np.random.default_rng(self.seed)
        qualities = np.clip(rng.beta(3 * self.mean_q, 3 * (1 - self.mean_q), num_tokens + 64), 1e-3, 1.0)
        return [self._true_path(qualities[base : base + DEEPEST]) for base in range(num_tokens)]

    @staticmethod
    def _true_path(qualities: Floats) -> Places:
        places: list[int] = []
        for cost in np.cumprod(1.0 / qualities):
            places.append(max(places[-1] + 1 if places else 0, int(cost) - 1))
        return tuple(places)


@dataclass(frozen=True)
class RecordedWorld(World):
    """With true paths that were recorded, one for each position of a text."""

    recorded: Sequence[Places] = ()

    def true_paths(self, num_tokens: int) -> Sequence[Places]:
        return self.recorded[:num_tokens]


@dataclass
class Run:
    """When each token came to the edge, and under which plan; how many steps the cloud took, and how long all of them took."""

    times: list[float] = field(default_factory=list)
    plans: list[TreePlan] = field(default_factory=list)
    num_steps: int = 0
    verifier_s: float = 0.0
    num_bytes_up: int = 0

    def pace(self, first: int = 0, last: int | None = None) -> float:
        """Tokens a second, of the tokens `first` to `last`."""
        times = self.times[first:last]
        return (len(times) - 1) / (times[-1] - times[0])

    def modes(self, first: int = 0) -> set[str]:
        return {plan.mode for plan in self.plans[first:]}


@dataclass(frozen=True)
class _Tree:
    """A drafted tree, as far as it matters: where it starts, how many nodes it has, and which of them lie on the true path."""

    base: int = 0
    num_nodes: int = 0
    places: Places = ()

    def after(self, length: int) -> _Tree:
        """What of it follows a text of `length` true tokens: its nodes are shared out evenly among the depths down to the first at which
        all of them are wrong.
        """
        num_passed, num_depths = length - self.base, len(self.places) + 1
        if num_passed >= num_depths:
            return _Tree(length)
        return _Tree(length, self.num_nodes - num_passed * self.num_nodes // num_depths, self.places[num_passed:])

    def first(self, num_nodes: int) -> _Tree:
        return _Tree(self.base, min(num_nodes, self.num_nodes), tuple(place for place in self.places if place < num_nodes))

    def foretold(self) -> Foretold:
        """The true path at its places; the other nodes are wrong guesses of its first token."""
        tokens, parents = np.arange(_TRUE + 1, _TRUE + 1 + self.num_nodes), np.full(self.num_nodes, -1)
        for above, place in zip((-1, *self.places), self.places, strict=False):
            tokens[place], parents[place] = _TRUE, above
        return Foretold(CoupledTree(self.base, tokens, parents))


@dataclass(frozen=True)
class _Hint:
    number: int
    tree: _Tree
    wait_s: float
    came: float


@dataclass(frozen=True)
class _Step:
    """A decision as the edge is told of it."""

    num_tokens: int
    num_nodes: int
    took_s: float
    number: int
    hint_age_s: float


class _Events:
    """What happens next: calls in the order of their times, those of one time in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._planned, (self.now + seconds, next(self._count), call))

    def run(self) -> None:
        while self._planned:
            self.now, _, call = heapq.heappop(self._planned)
            call()


class _Cloud:
    def __init__(self, world: World, events: _Events, num_tokens: int, result: Run, tell: Callable[[_Step], None]) -> None:
        self._world, self._events, self._num_tokens, self._result, self._tell = world, events, num_tokens, result, tell
        self._length, self._decided, self._is_busy = 0, 0.0, False
        self._hint = _Hint(0, _Tree(), 0.0, 0.0)

    def take(self, hint: _Hint) -> None:
        if hint.number > self._hint.number:
            self._hint = hint
        self.go_on()

    def go_on(self) -> None:
        """Begins a step, unless one is under way, the text has ended or a hint is waited for."""
        if self._is_busy or self._length >= self._num_tokens:
            return
        hint, tree = self._hint, self._hint.tree.after(self._length)
        held_s = self._decided + hint.wait_s - self._events.now
        if not tree.num_nodes and hint.tree.base != self._length and held_s > 1e-9:
            self._events.after(held_s, self.go_on)
            return
        took_s = self._world.step_s(tree.num_nodes)
        num_tokens = min(1 + len(tree.places), self._num_tokens - self._length)
        age_s = self._events.now + took_s - hint.came
        self._is_busy = True
        self._events.after(took_s, lambda: self._decide(_Step(num_tokens, tree.num_nodes, took_s, hint.number, age_s)))

    def _decide(self, step: _Step) -> None:
        self._length += step.num_tokens
        self._decided, self._is_busy = self._events.now, False
        self._result.num_steps += 1
        self._result.verifier_s += step.took_s
        self._tell(step)
        self.go_on()


class _Edge:
    def __init__(self, world: World, events: _Events, tuner: TreeTuner, num_tokens: int, result: Run) -> None:
        self._world, self._events, self._tuner, self._num_tokens, self._result = world, events, tuner, num_tokens, result
        self._true_paths = world.true_paths(num_tokens)
        self._cloud = _Cloud(world, events, num_tokens, result, self._on_the_way_down)
        self._length, self._last_base, self._is_drafting = 0, -1, False
        self._number, self._acknowledged, self._told_wait_s = 0, 0, 0.0
        self._sent: dict[int, float] = {}
        self._followed: list[Foretold] = []
        self._last_decided: float | None = None

    def start(self) -> None:
        self._cloud.go_on()
        self._draft()

    @property
    def _half_trip_s(self) -> float:
        return self._world.round_trip_s(self._events.now) / 2

    def _on_the_way_down(self, step: _Step) -> None:
        self._events.after(self._half_trip_s, lambda: self._decided(step))

    def _decided(self, step: _Step) -> None:
        now = self._events.now
        if step.number > self._acknowledged:
            self._tuner.came_back(now - self._sent[step.number] - step.hint_age_s)
            self._acknowledged = step.number
        self._length += step.num_tokens
        for foretold in self._followed:
            foretold.follow([_TRUE] * step.num_tokens)
            if foretold.is_over:
                self._tuner.came_true(foretold)
        self._followed = [foretold for foretold in self._followed if not foretold.is_over]
        self._tuner.decided(step.num_nodes, step.num_tokens, step.took_s, 0.0 if self._last_decided is None else now - self._last_decided)
        self._last_decided = now
        self._result.times += [now] * step.num_tokens
        self._result.plans += [self._tuner.current] * step.num_tokens
        self._draft()

    def _draft(self) -> None:
        """Begins a tree where one is wanted. Lets the cloud go on where none will come."""
        if not self._is_drafting:
            self._start_drafting()
        if self._told_wait_s and not self._is_drafting and self._last_base != self._length:
            self._send(_Tree(self._length), 0.0)
        if not self._is_drafting:
            self._tuner.reconsider()

    def _start_drafting(self) -> None:
        if self._last_base == self._length or self._length >= self._num_tokens - 1:
            return
        is_probe = self._tuner.wants_probe
        plan = self._tuner.probe if is_probe else self._tuner.to_draft()
        if not plan.num_nodes:
            return
        self._is_drafting, self._last_base = True, self._length
        took_s = self._world.draft_s(plan.num_nodes)
        tree = _Tree(self._length, plan.num_nodes, self._places(plan))
        self._events.after(took_s, lambda: self._drafted(tree, took_s, is_probe=is_probe))

    def _places(self, plan: TreePlan) -> Places:
        """Of the true path's nodes in a tree drafted where the text now ends, as far as they are in it."""
        return tuple(place for place in self._true_paths[self._length][: plan.max_depth] if place < plan.num_nodes)

    def _drafted(self, tree: _Tree, took_s: float, *, is_probe: bool) -> None:
        self._is_drafting = False
        foretold = tree.foretold()
        foretold.follow([_TRUE] * (self._length - tree.base))
        self._followed.append(foretold)
        self._tuner.drafted(tree.num_nodes, took_s, num_read=1)
        plan = PROBED if is_probe else self._tuner.current
        live = tree.first(plan.num_nodes).after(self._length)
        if is_probe or live.num_nodes or not self._number or self._told_wait_s > plan.wait_s == 0.0:
            self._send(live, plan.wait_s)
        self._draft()

    def _send(self, tree: _Tree, wait_s: float) -> None:
        self._number, self._told_wait_s = self._number + 1, wait_s
        self._sent[self._number] = self._events.now
        half_s, num_bytes = self._half_trip_s, _FRAME_BYTES + _NODE_BYTES * tree.num_nodes
        self._result.num_bytes_up += num_bytes + _BESIDES
        self._tuner.sent(tree.num_nodes, num_bytes)
        hint = _Hint(self._number, tree, wait_s, self._events.now + half_s)
        self._events.after(half_s, lambda: self._cloud.take(hint))


def run_in_virtual_time(world: World, tuner: TreeTuner, num_tokens: int) -> Run:
    """A text of `num_tokens`, to its end; `tuner` is told what an edge would tell it."""
    result, events = Run(), _Events()
    _Edge(world, events, tuner, num_tokens, result).start()
    events.run()
    return result
