"""What each way to draft would bring, by what was measured.

What a way would have made of the text of late is replayed, with the step's time by tree size, the round trip and the time that drafting
takes, and corrected by how much of what was expected of it before it kept.
Knows figures and plans; chooses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge.tuning.costs import CostBySize, CostByWay, Recent, upper
from edge.tuning.plan import DEEPEST, OFF, TreePlan
from edge.tuning.recent_text import RecentText
from edge.tuning.replay import Replayed, streaming, waiting

SIZES = (4, 8, 16, 24, 32, 48, 64, 96)
_TRIALS = 3  # outcomes before a first judgement
_BELIEVED = 96  # decisions that would have to say otherwise
_FADE, _FADE_UNUSED = 0.85, 0.96  # of what was measured, what still counts when a plan is judged again
_ROUNDS_OF_REPLAY, _AS_LATE = 3, 0.1  # how late trees are depends on what a step takes, which depends on how late they are
_PATIENCE, _SLACK_S = 2.0, 0.02  # a tree that is waited for may take so much longer than the last few
# Of a draft beside a step that wants the same cores: what it may take alone. It has to be tried to be known.
_UNTRIED = 0.75
_LONGEST_WAIT_S = 2.0  # a link that was away for long says little of how long a tree takes, and one that is lost is waited for in vain


class Objective(StrEnum):
    LATENCY = "latency"  # tokens a second
    COST = "cost"  # verifier seconds a token
    ENERGY = "energy"  # joules a token at the edge


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """What drafting and sending take of the edge's battery. The defaults are assumptions, of no device in particular: a small processor
    busy on one core, and a radio; give the device's own.
    """

    draft_w: float = 2.0
    idle_w: float = 0.3
    byte_j: float = 5e-6


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a plan is expected to bring."""

    plan: TreePlan
    tokens_per_s: float
    tokens_per_step: float
    verifier_s_per_token: float
    joules_per_token: float
    bytes_up_per_token: float

    def worth(self, objective: Objective) -> float:
        """More is better."""
        match objective:
            case Objective.LATENCY:
                return self.tokens_per_s
            case Objective.COST:
                return 1.0 / self.verifier_s_per_token
        return 1.0 / self.joules_per_token


class _Kept:
    """How much of what was expected of a way to speculate it kept: 1 as long as it was not tried, and again where that is long ago."""

    def __init__(self) -> None:
        self._num_decisions = self._sum = 0.0

    @property
    def ratio(self) -> float:
        return (_BELIEVED + self._sum) / (_BELIEVED + self._num_decisions)

    def add(self, ratio: float, num_decisions: float) -> None:
        self._num_decisions += num_decisions
        self._sum += num_decisions * min(max(ratio, 0.4), 2.5)

    def fade(self, rate: float) -> None:
        self._num_decisions *= rate
        self._sum *= rate


class Forecaster:
    """Knows an endpoint by its figures, which callers add to: what steps and drafts take, the link, and the text. Mutable; one caller."""

    def __init__(self, device: DeviceProfile) -> None:
        self._device = device
        self.text = RecentText()
        # Steps while the edge drafts. Where it shares cores with the verifier, those beside an edge at rest are quicker.
        self.step, self.overhead = CostByWay(), Recent(15)
        self.step_at_rest, self.cycle_at_rest = Recent(15), Recent(15)
        # A tree that goes on with the last takes little. One is missed after the text has left the last, and it is drafted whole.
        self.draft, self.round_trip = CostByWay(_UNTRIED, not_awaited=upper), Recent()
        self.num_bytes = CostBySize()  # of a tree's message
        self._drafted_per_step: dict[int, float] = {}  # of each size, in *stream*, by the last replay: it changes little to the next
        self._kept = {mode: _Kept() for mode in ("off", "wait", "stream")}

    @property
    def knows_enough(self) -> bool:
        return bool(self.step) and bool(self.draft) and self.text.num_drafts >= _TRIALS

    def kept(self, mode: str) -> float:
        """What was brought over what was expected."""
        return self._kept[mode].ratio

    def judge(self, plan: TreePlan, num_decisions: float, num_tokens: float, seconds: float) -> None:
        """Holds what `plan` brought of late against what was to be expected of it along that very text."""
        reach = self.text.reach((plan.num_nodes,)).get(plan.num_nodes)
        if reach is None:
            return
        own = self._kept[plan.mode]
        expected = self._with_tree(plan.mode, plan.num_nodes, reach, max(len(reach) - round(num_tokens), 0))
        own.add(num_tokens / seconds * own.ratio / expected.tokens_per_s, num_decisions)
        for other in self._kept.values():
            other.fade(_FADE if other is own else _FADE_UNUSED)

    def off(self) -> Forecast:
        return self._forecast(OFF, 1.0, self.cycle_s(), min(self.step_at_rest.value(math.inf), self.step.at(0, is_awaited=True)), 0.0, 0.0)

    def with_trees(self, modes: Sequence[str]) -> list[Forecast]:
        """Of each size that was tried, in each of the `modes`."""
        return [self._with_tree(mode, size, reach) for size, reach in self.text.reach(SIZES).items() for mode in modes]

    def _with_tree(self, mode: str, size: int, reach: Sequence[int], first: int = 0) -> Forecast:
        """Replayed along the positions from `first` on."""
        return self._waiting(size, reach, first) if mode == "wait" else self._streaming(size, reach, first)

    def _waiting(self, size: int, reach: Sequence[int], first: int) -> Forecast:
        step, draft = self.step.at(size, is_awaited=True), self.draft.at(size, is_awaited=True)
        turnaround = self.round_trip.value(0.0) + draft
        plan = TreePlan(size, DEEPEST, min(_PATIENCE * turnaround + _SLACK_S, _LONGEST_WAIT_S))
        return self._forecast(plan, waiting(reach, first).tokens_per_step, step + self.overhead.value(0.0) + turnaround, step, draft, 1.0)

    def _streaming(self, size: int, reach: Sequence[int], first: int) -> Forecast:
        draft = self.draft.at(size, is_awaited=False)
        plain, full = self.step.at(0, is_awaited=False), self.step.at(size, is_awaited=False)
        replayed, step, late = Replayed(0, 0, 0), plain + (full - plain) * self._drafted_per_step.get(size, 0.0), -1.0
        for _ in range(_ROUNDS_OF_REPLAY):
            cycle = step + self.overhead.value(0.0)
            before, late = late, self._num_late(draft, cycle)
            if abs(late - before) < _AS_LATE:
                break
            replayed = streaming(reach, late, max(1, math.ceil(draft / cycle)), first)
            self._drafted_per_step[size] = replayed.drafted_per_step
            step = plain + (full - plain) * replayed.drafted_per_step  # a tree that has died costs nothing
        cycle = step + self.overhead.value(0.0)
        trees_per_step = min(cycle / draft, 1.0)  # at most: what of a tree has died is not sent
        return self._forecast(TreePlan(size, DEEPEST, 0.0), replayed.tokens_per_step, cycle, step, draft, trees_per_step)

    def _num_late(self, draft: float, cycle: float) -> float:
        """How many steps end between a tree's base and the step that reads it, where the cloud decodes on."""
        # As if trees came at any moment of a step: it is half over on average.
        at_any_moment = (self.round_trip.value(0.0) + draft) / cycle + 0.5
        if draft > cycle:
            return max(1.0, at_any_moment)
        # A quick drafter begins as a decision comes, so that its trees come at the same moment of each step. Steps waver: half and half.
        trips = self.round_trip.values or (0.0,)
        in_step = sum(math.ceil((trip + draft) / cycle) for trip in trips) / len(trips)
        return max(1.0, (at_any_moment + in_step) / 2)

    def cycle_s(self) -> float:
        """From one decision to the next, where the cloud decodes alone."""
        # Drafting makes no step quicker: less at rest is the cores' doing, more a hiccup. Off is the safe side to err on.
        return min(self.cycle_at_rest.low(math.inf), self.step.at(0, is_awaited=True) + self.overhead.value(0.0))

    def turnaround_s(self, plan: TreePlan) -> float:
        """From a decision to the first tree that answers it, as far as is known."""
        return self.round_trip.value(0.0) + (self.draft.at(plan.num_nodes, is_awaited=plan.mode == "wait") if self.draft else 0.0)

    def _forecast(
        self, plan: TreePlan, tokens_per_step: float, cycle_s: float, step_s: float, draft_s: float, trees_per_step: float
    ) -> Forecast:
        device, num_tokens = self._device, max(tokens_per_step * self.kept(plan.mode), 1e-9)
        num_bytes = trees_per_step * self.num_bytes.at(plan.num_nodes) if self.num_bytes and trees_per_step else 0.0
        joules = draft_s * device.draft_w + cycle_s * device.idle_w + num_bytes * device.byte_j
        return Forecast(plan, num_tokens / cycle_s, num_tokens, step_s / num_tokens, joules / num_tokens, num_bytes / num_tokens)
