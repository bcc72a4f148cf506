"""Which trees to draft, and whether to be waited for: chosen from what was measured, for what the user wants.

Three ways to speculate, with trees of any size:

    off      the cloud decodes alone
    wait     the cloud waits for each tree:     a step's tokens cost the step, a round trip and the drafting
    stream   the cloud decodes on in the gaps:  a step's tokens cost the step, but each tree comes late, and what was
             emitted since it was drafted must have come true before anything more of it can

What a way would bring is computed from the step's time by tree size, the round trip, the time that drafting takes and the survival
curve of drafted tokens, all measured, and corrected by what the way in use really brings. Drafts are followed along the text also
where they were not sent, so that being off still learns; it is left only for a clear gain.
Knows figures and plans; knows nothing of links, of models or of text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from cactus_core.coins import Floats
from edge.tuning.costs import CostBySize, Recent
from edge.tuning.plan import DEEPEST, OFF, TreePlan
from edge.tuning.survival import Foretold, Survival

SIZES = (4, 8, 16, 24, 32, 48, 64, 96)
_FIRST = TreePlan(8, 8, 0.0)
_MARGIN = 1.04  # another way must promise so much more than the one in use
_WORTH_DRAFTING = 1.02  # less than this over off, and the edge had better rest
_LEAVE_OFF = 1.05  # off is sticky: what the others promise there was not tried
_TRIALS = 3  # outcomes before a first judgement
_PROBE_EVERY, _PROBE_AT_LEAST_EVERY = 32, 256  # tokens between two probes while off
_PROBED_NODES = 32
_PROBING_SHARE = 0.015  # of the time that drafting them may take: an edge may share its cores with the verifier
_HOPELESS = 0.5  # tokens of such a tree that come true: below that each probe is twice as long in coming as the one before
# Of a probe so much is sent: enough to measure the round trip and what a step with drafts takes, and to be read at next to no cost.
PROBED = TreePlan(4, DEEPEST, 0.0)
_EXPLORED = {1: 32, 2: 32, 3: 32, 6: 64}  # nodes of the first trees
_EXPLORE_EVERY = 8  # trees between two larger than planned
_JUDGED_EVERY = 8  # decisions
_BELIEVED = 12  # decisions that would have to say otherwise
_FADE, _FADE_UNUSED = 0.85, 0.96  # of what was measured, what still counts when a plan is judged again
_NEAR = 1.15  # a way that is expected to bring so much less may yet bring more
_PATIENCE, _SLACK_S = 2.0, 0.02  # a tree that is waited for may take so much longer than the last few


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


class TreeTuner:
    """Chooses plans for one endpoint; what it learns outlives a request. One caller at a time."""

    def __init__(
        self, objective: Objective = Objective.LATENCY, device: DeviceProfile | None = None, *, fixed: TreePlan | None = None
    ) -> None:
        """With a `fixed` plan it only watches."""
        self._objective, self._device, self._fixed = objective, device or DeviceProfile(), fixed
        self._survival = Survival()
        self._step, self._draft = CostBySize(), CostBySize()
        self._round_trip, self._overhead, self._bytes = Recent(), Recent(15), Recent(15)
        self._current: TreePlan = fixed or _FIRST
        self._kept = {mode: _Kept() for mode in ("off", "wait", "stream")}
        self._num_trees = self._since_probe = 0
        self._probe_every = _PROBE_EVERY
        self._is_on_trial, self._next_trial = False, 12
        self._settling_s = 0.0  # before what comes is the current plan's doing
        self._window: list[float] = [0.0, 0.0, 0.0]  # under the current plan: decisions, tokens, seconds
        self.can_wait = self.can_stream = True

    @property
    def current(self) -> TreePlan:
        """The plan in force: what to send."""
        return self._current

    def to_draft(self) -> TreePlan:
        """What to draft next: the plan or, for the sake of learning, now and then more; no more is sent than `current` says."""
        if self._fixed is not None or not self._current.num_nodes:
            return self._current
        self._num_trees += 1
        more = _EXPLORED.get(self._num_trees, 0)
        if self._num_trees % (_EXPLORE_EVERY if self._num_trees < 4 * _EXPLORE_EVERY else 3 * _EXPLORE_EVERY) == 0:
            more = next((size for size in SIZES if size >= 2 * self._current.num_nodes), SIZES[-1])
        return replace(self._current, num_nodes=max(more, self._current.num_nodes), max_depth=DEEPEST)

    @property
    def wants_probe(self) -> bool:
        """Whether, being off, it is time to draft a tree for the sake of learning, and to measure the round trip."""
        return self._fixed is None and self.can_stream and not self._current.num_nodes and self._since_probe >= self._probe_every

    @property
    def probe(self) -> TreePlan:
        self._since_probe = 0
        curve = self._survival.curves((_PROBED_NODES,)).get(_PROBED_NODES)
        if curve is None or curve.sum() < _HOPELESS or not self._draft or not self._step:
            self._probe_every = min(2 * self._probe_every, _PROBE_AT_LEAST_EVERY)
        else:
            affordable = self._draft.at(_PROBED_NODES) / (_PROBING_SHARE * self._cycle_s(0))
            self._probe_every = int(min(max(affordable, _PROBE_EVERY), _PROBE_AT_LEAST_EVERY))
        return TreePlan(_PROBED_NODES, DEEPEST, 0.0)

    def drafted(self, num_nodes: int, seconds: float, num_bytes: int) -> None:
        self._draft.add(num_nodes, seconds)
        self._bytes.add(num_bytes)

    def came_back(self, round_trip_s: float) -> None:
        self._round_trip.add(max(round_trip_s, 0.0))

    def came_true(self, foretold: Foretold) -> None:
        self._survival.add(foretold.places, foretold.num_nodes, is_open=not foretold.is_over)

    def decided(self, num_nodes: int, num_tokens: int, verify_s: float, since_last_s: float) -> None:
        """A decision came: of a step that read `num_nodes` of a tree, `since_last_s` after the one before; 0 for a stream's first."""
        self._step.add(num_nodes, verify_s)
        self._since_probe += num_tokens
        if since_last_s > 0.0:
            if self._current.mode != "wait":
                self._overhead.add(max(since_last_s - verify_s, 0.0))
            self._settling_s -= since_last_s
            if self._settling_s <= 0.0:
                self._window = [a + b for a, b in zip(self._window, (1.0, num_tokens, since_last_s), strict=True)]
        self._choose()

    def gave_up(self) -> None:
        """No tree can be drafted any more: off, for good."""
        self.can_wait = self.can_stream = False
        self._adopt(OFF)

    def forecasts(self) -> list[Forecast]:
        """What each plan would bring, the best first; empty while too little is known."""
        if not self._step or not self._draft or self._survival.num_outcomes < _TRIALS:
            return []
        found = [self._off()]
        for size, curve in self._survival.curves(SIZES).items():
            # Before a round trip was measured nobody is to wait for one.
            found += [self._wait(size, curve)] * (self.can_wait and bool(self._round_trip))
            found += [self._stream(size, curve)] * self.can_stream
        return sorted(found, key=lambda forecast: -forecast.worth(self._objective))

    def explain(self) -> dict[str, object]:
        """What it believes and chose, in plain figures."""
        forecasts = self.forecasts()
        best_of: dict[str, Forecast] = {}
        for forecast in forecasts:
            best_of.setdefault(forecast.plan.mode, forecast)
        return {
            "objective": str(self._objective),
            "mode": self._current.mode,
            "num_nodes": self._current.num_nodes,
            "round_trip_ms": _ms(self._round_trip.value(math.nan)),
            "step_ms": {size: _ms(self._step.at(size)) for size in (0, *SIZES) if self._step},
            "draft_ms": {size: _ms(self._draft.at(size)) for size in SIZES if self._draft},
            "accepted_per_tree": {size: round(float(curve.sum()), 2) for size, curve in self._survival.curves(SIZES).items()},
            "expected": {
                mode: {
                    "num_nodes": forecast.plan.num_nodes,
                    "tokens_per_s": round(forecast.tokens_per_s, 1),
                    "tokens_per_step": round(forecast.tokens_per_step, 2),
                    "measured_over_expected": round(self._kept[mode].ratio, 2),
                }
                for mode, forecast in best_of.items()
            },
        }

    def _choose(self) -> None:
        if self._fixed is not None:
            return
        forecasts = self.forecasts()
        if not forecasts:
            return
        is_judged = self._judge(forecasts)
        best = forecasts[0]
        here = next((forecast for forecast in forecasts if _is_alike(forecast.plan, self._current)), None)
        if here is None:
            self._adopt(best.plan)
        elif self._is_on_trial and not is_judged:
            self._current = here.plan
        elif best.worth(self._objective) < _WORTH_DRAFTING * self._off().worth(self._objective):
            self._adopt(OFF)
        elif best.worth(self._objective) > (_MARGIN if self._current.num_nodes else _LEAVE_OFF) * here.worth(self._objective):
            self._adopt(best.plan)
        elif (other := self._worth_a_trial(forecasts, here)) is not None:
            self._adopt(other.plan)
            self._is_on_trial = True
        else:
            self._current = here.plan  # with the wait that the round trip calls for now

    def _worth_a_trial(self, forecasts: list[Forecast], here: Forecast) -> Forecast | None:
        """The other way to draft, where it is thought so near the one in use that a wrong forecast may be all between them."""
        if self._num_trees < self._next_trial or not here.plan.num_nodes:
            return None
        other = next((each for each in forecasts if each.plan.mode not in (here.plan.mode, "off")), None)
        if other is None or _NEAR * other.worth(self._objective) < here.worth(self._objective):
            return None
        self._next_trial = 4 * self._num_trees
        return other

    def _adopt(self, plan: TreePlan) -> None:
        if not _is_alike(plan, self._current):
            self._window, self._is_on_trial = [0.0, 0.0, 0.0], False
            self._probe_every = _PROBE_EVERY
            self._settling_s = self._round_trip.value(0.0) + (self._draft.at(plan.num_nodes) if self._draft else 0.0)
        self._current = plan

    def _judge(self, forecasts: list[Forecast]) -> bool:
        """Holds what the plan in use brings against what was expected of it; whether enough decisions came for that."""
        num_decisions, num_tokens, seconds = self._window
        if num_decisions < _JUDGED_EVERY:
            return False
        self._window = [0.0, 0.0, 0.0]
        here = next((forecast for forecast in forecasts if _is_alike(forecast.plan, self._current)), None)
        if here is not None and here.plan.num_nodes:
            own = self._kept[here.plan.mode]
            own.add(num_tokens / seconds / (here.tokens_per_s / own.ratio), num_decisions)
            for other in self._kept.values():
                other.fade(_FADE if other is own else _FADE_UNUSED)
        return True

    def _off(self) -> Forecast:
        step = self._step.at(0)
        return self._forecast(OFF, 1.0, self._cycle_s(0), step, 0.0)

    def _cycle_s(self, size: int) -> float:
        """From one decision to the next, where nobody waits."""
        return self._step.at(size) + self._overhead.value(0.0)

    def _wait(self, size: int, curve: Floats) -> Forecast:
        step, draft = self._step.at(size), self._draft.at(size)
        turnaround = self._round_trip.value(0.0) + draft
        plan = TreePlan(size, DEEPEST, _PATIENCE * turnaround + _SLACK_S)
        return self._forecast(plan, 1.0 + float(curve.sum()), self._cycle_s(size) + turnaround, step, draft)

    def _stream(self, size: int, curve: Floats) -> Forecast:
        draft, overhead = self._draft.at(size), self._overhead.value(0.0)
        plain, more = self._step.at(0), self._step.at(size) - self._step.at(0)
        stands = np.concatenate([[1.0], curve])  # so many tokens and more come true
        beyond = np.cumsum(curve[::-1])[::-1]  # what comes true after so many
        num_tokens, step = 1.0, plain
        # What a step brings depends on how much was emitted since its tree was drafted, which depends on what a step brings.
        for _ in range(8):
            cycle = step + overhead
            num_since = self._num_late(draft, cycle) * num_tokens
            num_tokens = 0.5 * num_tokens + 0.5 * (1.0 + _between(beyond, num_since))
            step = plain + more * _between(stands, num_since)  # a tree that has died costs nothing
        return self._forecast(TreePlan(size, DEEPEST, 0.0), num_tokens, step + overhead, step, draft)

    def _num_late(self, draft: float, cycle: float) -> float:
        """How many steps end between a tree's base and the step that reads it, where the cloud decodes on."""
        # As if trees came at any moment of a step: it is half over on average. Of a slow drafter the next steps have the same tree.
        at_any_moment = (self._round_trip.value(0.0) + draft) / cycle + 0.5 + 0.5 * max(draft / cycle - 1.0, 0.0)
        if draft > cycle:
            return max(1.0, at_any_moment)
        # A quick drafter begins as a decision comes, so that its trees come at the same moment of each step. Steps waver: half and half.
        trips = self._round_trip.values or (0.0,)
        in_step = sum(math.ceil((trip + draft) / cycle) for trip in trips) / len(trips)
        return max(1.0, (at_any_moment + in_step) / 2)

    def _forecast(self, plan: TreePlan, num_tokens: float, cycle_s: float, step_s: float, draft_s: float) -> Forecast:
        device, num_tokens = self._device, max(num_tokens * self._kept[plan.mode].ratio, 1e-9)
        num_bytes = self._bytes.value(0.0) if plan.num_nodes else 0.0
        joules = draft_s * device.draft_w + cycle_s * device.idle_w + num_bytes * device.byte_j
        return Forecast(plan, num_tokens / cycle_s, num_tokens, step_s / num_tokens, joules / num_tokens)


def _is_alike(one: TreePlan, other: TreePlan) -> bool:
    return (one.mode, one.num_nodes) == (other.mode, other.num_nodes)


def _between(values: Floats, at: float) -> float:
    """`values` on the line between their places; 0 after the last."""
    place = int(at)
    if place + 1 >= len(values):
        return 0.0
    return float(values[place] + (at - place) * (values[place + 1] - values[place]))


def _ms(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1e3, 2)
