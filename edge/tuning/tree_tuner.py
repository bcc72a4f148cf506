"""Which trees to draft, and whether to be waited for: chosen from what was measured, for what the user wants.

Three ways to speculate, with trees of any size:

    off      the cloud decodes alone
    wait     the cloud waits for each tree:     a step's tokens cost the step, a round trip and the drafting
    stream   the cloud decodes on in the gaps:  a step's tokens cost the step, but each tree comes late, and what was
             emitted since it was drafted must have come true before anything more of it can

The way that would have brought the most along the text of late is taken. Drafts are followed along the text also where they were not sent,
so that being off still learns; it is left only for a clear gain.
Knows figures and plans; knows nothing of links, of models or of text.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from edge.tuning.forecasting import SIZES, DeviceProfile, Forecast, Forecaster, Objective
from edge.tuning.foretold import Foretold
from edge.tuning.plan import DEEPEST, OFF, TreePlan

_FIRST = TreePlan(8, 8, 0.0)
_MARGIN = 1.04  # another way must promise so much more than the one in use: what is promised wavers by as much
_WORTH_DRAFTING, _UNWORTHY_FOR = 1.02, 3  # less than this over off for so many choices, and the edge had better rest
_LEAVE_OFF = 1.05  # off is sticky: what the others promise there was not tried
_PROBE_EVERY, _PROBE_AT_LEAST_EVERY = 32, 256  # tokens between two probes while off
_PROBED_NODES = 32
_LEARNING_SHARE = 0.015  # of the time that drafting for its sake may take: an edge may share its cores with the verifier
_USUALLY_READ = 16  # tokens that a text grows by from one tree to the next
_HOPELESS = 0.5  # tokens of such a tree that come true: below that each probe is twice as long in coming as the one before
# Of a probe so much is sent: enough to measure the round trip and what a step with drafts takes, and to be read at next to no cost.
PROBED = TreePlan(4, DEEPEST, 0.0)
_EXPLORED = {1: 32, 2: 32, 3: 32, 6: 64}  # nodes of the first trees
_EXPLORE_EVERY, _EXPLORE_LATER = 8, 16  # trees, at least, between two larger than planned, at first and later
_CHOSEN_EVERY, _KNOWS_LITTLE = 8, 8  # decisions from one choice to the next, once there were more than so many drafts
_CHOSEN_AT_LEAST_EVERY = 12  # where the edge is never idle
_ANOTHER_LINK = 0.3  # change of the round trip that calls for a choice at once
_JUDGED_EVERY = 8  # decisions
_BESIDES = 40  # bytes that HTTP/2 sends for each message, its acknowledgements included
_BALANCED_OVER = 384  # tokens in which bytes that were sent beyond what may be are saved again, or those that were saved are spent
_UNKNOWN = 4  # drafts, of which half tell nothing
_PACE_FADES = 0.9  # from one decision to the next


class TreeTuner:
    """Chooses plans for one endpoint; what it learns outlives a request. One caller at a time."""

    def __init__(
        self,
        objective: Objective = Objective.LATENCY,
        device: DeviceProfile | None = None,
        *,
        fixed: TreePlan | None = None,
        max_bytes_up: float = math.inf,
    ) -> None:
        """With a `fixed` plan it only watches. Else no more than `max_bytes_up` a token are sent, on average: no plan is chosen that is
        expected to send more, and what went up more or less than that lowers or raises what may be sent from then on.
        """
        self._objective, self._fixed, self._max_bytes_up = objective, fixed, max_bytes_up
        self._known = Forecaster(device or DeviceProfile())
        self._current: TreePlan = fixed or _FIRST
        self._num_trees = self._since_explored = self._since_probe = 0
        self._probe_every, self._probe_s, self._is_hopeless = _PROBE_EVERY, 0.0, False
        # Since the last choice: decisions, the round trip that it was made at, and whether any draft ended.
        self._since_chosen, self._chosen_at_s, self._has_news = 0, 0.0, False
        self._is_drafting = self._has_drafted = False  # now; since the last decision
        self._num_unworthy = 0  # choices
        self._settling_s = 0.0  # before what comes is the current plan's doing
        self._saved_bytes = 0.0  # that might have been sent
        self._window: list[float] = [0.0, 0.0, 0.0]  # under the current plan: decisions, tokens, seconds
        self._pace = 0.0, 0.0  # tokens and seconds, those of late counting most
        self.can_wait = self.can_stream = True

    @property
    def current(self) -> TreePlan:
        """The plan in force: what to send."""
        return self._current

    @property
    def s_per_token(self) -> float:
        """Of the text of late; infinity before anything is known."""
        num_tokens, seconds = self._pace
        return seconds / num_tokens if num_tokens else math.inf

    def to_draft(self) -> TreePlan:
        """What to draft next: the plan or, for the sake of learning, now and then more; no more is sent than `current` says."""
        self._is_drafting = self._has_drafted = bool(self._current.num_nodes)
        if self._fixed is not None or not self._current.num_nodes:
            return self._current
        self._num_trees += 1
        self._since_explored += 1
        more = _EXPLORED.get(self._num_trees, 0)
        larger = next((size for size in SIZES if size >= 2 * self._current.num_nodes), SIZES[-1])
        if self._since_explored >= self._explore_every(larger):
            self._since_explored, more = 0, larger
        return replace(self._current, num_nodes=max(more, self._current.num_nodes), max_depth=DEEPEST)

    def _explore_every(self, num_nodes: int) -> float:
        """Trees between two that are so much larger than planned: those that follow wait for them to be drafted."""
        if self._num_trees < 4 * _EXPLORE_EVERY or not self._known.knows_enough:
            return _EXPLORE_EVERY
        draft = partial(self._known.draft.at, is_awaited=self._is_awaited)
        longer_s = draft(num_nodes) - draft(self._current.num_nodes)
        return max(_EXPLORE_LATER, longer_s / (_LEARNING_SHARE * self._known.cycle_s()))

    @property
    def wants_probe(self) -> bool:
        """Whether, being off, it is time to draft a tree for the sake of learning, and to measure the round trip."""
        return self._fixed is None and self.can_stream and not self._current.num_nodes and self._since_probe >= self._probe_every

    @property
    def probe(self) -> TreePlan:
        self._is_drafting = self._has_drafted = True
        self._since_probe = 0
        self._is_hopeless = self._known.text.accepted((_PROBED_NODES,)).get(_PROBED_NODES, 0.0) < _HOPELESS
        if self._is_hopeless or not self._known.step:
            self._probe_every = min(2 * self._probe_every, _PROBE_AT_LEAST_EVERY)
        else:
            affordable = self._probe_s / (_LEARNING_SHARE * self._known.cycle_s())
            self._probe_every = int(min(max(affordable, _PROBE_EVERY), _PROBE_AT_LEAST_EVERY))
        return TreePlan(_PROBED_NODES, DEEPEST, 0.0)

    def drafted(self, num_nodes: int, seconds: float, *, num_read: int) -> None:
        """A tree was drafted, for a text that had grown by `num_read` tokens since the one before."""
        self._is_drafting = False
        if num_read <= _USUALLY_READ or not self._known.draft:  # else it says what reading takes, which a probe has more of
            self._known.draft.add(num_nodes, seconds, is_awaited=self._is_awaited)
        if not self._current.num_nodes:
            self._probe_s = seconds

    def sent(self, num_nodes: int, num_bytes: int) -> None:
        """A tree went up in a frame of so many bytes."""
        num_bytes += _BESIDES
        self._known.num_bytes.add(num_nodes, num_bytes)
        self._saved_bytes -= num_bytes

    def came_back(self, round_trip_s: float) -> None:
        self._known.round_trip.add(max(round_trip_s, 0.0))

    def came_true(self, foretold: Foretold) -> None:
        self._known.text.add(foretold)
        self._has_news = True

    def decided(self, num_nodes: int, num_tokens: int, verify_s: float, since_last_s: float) -> None:
        """A decision came: of a step that read `num_nodes` of a tree, `since_last_s` after the one before; 0 for a stream's first."""
        is_at_rest = bool(self._known.step) and not (num_nodes or self._has_drafted)
        self._has_drafted = self._is_drafting
        if is_at_rest:
            self._known.step_at_rest.add(verify_s)
            self._known.step.age()
        else:
            self._known.step.add(num_nodes, verify_s, is_awaited=self._is_awaited)
        self._since_probe += num_tokens
        if num_tokens:  # zero times no bound is no number
            self._saved_bytes = min(self._saved_bytes + num_tokens * self._max_bytes_up, _BALANCED_OVER * self._max_bytes_up)
        if since_last_s == 0.0:
            self._known.text.begin()
            if not self._is_hopeless:
                self._since_probe = self._probe_every  # no two texts are alike
            self._settling_s = self._known.turnaround_s(self._current)
        else:
            if is_at_rest:
                self._known.cycle_at_rest.add(max(since_last_s, verify_s))
            elif not self._is_awaited:
                self._known.overhead.add(max(since_last_s - verify_s, 0.0))
            self._pace = _PACE_FADES * self._pace[0] + num_tokens, _PACE_FADES * self._pace[1] + since_last_s
            self._settling_s -= since_last_s
            if self._settling_s <= 0.0:
                self._window = [a + b for a, b in zip(self._window, (1.0, num_tokens, since_last_s), strict=True)]
        self._since_chosen += 1
        if self._since_chosen >= _CHOSEN_AT_LEAST_EVERY:
            self.reconsider()

    def reconsider(self) -> None:
        """For a moment at which nothing waits for the edge: chooses a plan, where it is time to. Takes two or three milliseconds then."""
        if self._fixed is not None:
            return
        if is_another_link := self._is_another_link():
            self._window = [0.0, 0.0, 0.0]  # what the old one let a plan bring says nothing of what is to be expected over this one
        if is_another_link or self._is_time_to_choose():
            self._since_chosen, self._chosen_at_s, self._has_news = 0, self._known.round_trip.value(0.0), False
            self._choose()

    def gave_up(self) -> None:
        """No tree can be drafted any more: off, for good."""
        self._is_drafting = self.can_wait = self.can_stream = False
        self._adopt(OFF)

    def forecasts(self) -> list[Forecast]:
        """What each plan would bring, the best first; empty while too little is known."""
        if not self._known.knows_enough:
            return []
        # Before a round trip was measured nobody is to wait for one.
        modes = ["wait"] * (self.can_wait and bool(self._known.round_trip)) + ["stream"] * self.can_stream
        # What little is known of is tried: too many bytes are saved again, and from being off nothing is learnt.
        most = self._max_bytes_up * (1 + _UNKNOWN / self._known.text.num_drafts) + self._saved_bytes / _BALANCED_OVER
        found = [self._known.off(), *(each for each in self._known.with_trees(modes) if each.bytes_up_per_token <= most)]
        return sorted(found, key=lambda forecast: -forecast.worth(self._objective))

    def explain(self) -> dict[str, object]:
        """What it believes and chose, in plain figures."""
        forecasts = self.forecasts()
        best_of: dict[str, Forecast] = {}
        for forecast in forecasts:
            best_of.setdefault(forecast.plan.mode, forecast)
        waits = self._is_awaited
        return {
            "objective": str(self._objective),
            "mode": self._current.mode,
            "num_nodes": self._current.num_nodes,
            "round_trip_ms": _ms(self._known.round_trip.value(math.nan)),
            "step_ms": {size: _ms(self._known.step.at(size, is_awaited=waits)) for size in (0, *SIZES) if self._known.step},
            "draft_ms": {size: _ms(self._known.draft.at(size, is_awaited=waits)) for size in SIZES if self._known.draft},
            "accepted_per_tree": {size: round(length, 2) for size, length in self._known.text.accepted(SIZES).items()},
            "expected": {
                mode: {
                    "num_nodes": forecast.plan.num_nodes,
                    "tokens_per_s": round(forecast.tokens_per_s, 1),
                    "tokens_per_step": round(forecast.tokens_per_step, 2),
                    "bytes_up_per_token": round(forecast.bytes_up_per_token, 1),
                    "measured_over_expected": round(self._known.kept(mode), 2),
                }
                for mode, forecast in best_of.items()
            },
        }

    @property
    def _is_awaited(self) -> bool:
        return self._current.mode == "wait"

    def _is_another_link(self) -> bool:
        change_s = abs(self._known.round_trip.value(0.0) - self._chosen_at_s)
        return change_s > _ANOTHER_LINK * self._chosen_at_s

    def _is_time_to_choose(self) -> bool:
        """Now and then, once more is known: a text is replayed some dozen times for it."""
        return self._has_news and (self._since_chosen >= _CHOSEN_EVERY or self._known.text.num_drafts <= _KNOWS_LITTLE)

    def _choose(self) -> None:
        forecasts = self.forecasts()
        if not forecasts:
            return
        self._judge()
        best = forecasts[0]
        here = next((forecast for forecast in forecasts if _is_alike(forecast.plan, self._current)), None)
        is_worth_it = best.worth(self._objective) >= _WORTH_DRAFTING * self._known.off().worth(self._objective)
        self._num_unworthy = 0 if is_worth_it else self._num_unworthy + 1
        if here is None:
            self._adopt(best.plan)
        elif self._num_unworthy >= _UNWORTHY_FOR:
            self._adopt(OFF)
        elif best.worth(self._objective) > (_MARGIN if self._current.num_nodes else _LEAVE_OFF) * here.worth(self._objective):
            self._adopt(best.plan)
        else:
            self._current = here.plan  # with the wait that the round trip calls for now

    def _adopt(self, plan: TreePlan) -> None:
        if not _is_alike(plan, self._current):
            self._window = [0.0, 0.0, 0.0]
            self._probe_every = _PROBE_EVERY
            self._settling_s = self._known.turnaround_s(plan)
        self._current = plan

    def _judge(self) -> None:
        num_decisions, num_tokens, seconds = self._window
        if num_decisions >= _JUDGED_EVERY:
            self._window = [0.0, 0.0, 0.0]
            if self._current.num_nodes:
                self._known.judge(self._current, num_decisions, num_tokens, seconds)


def _is_alike(one: TreePlan, other: TreePlan) -> bool:
    return (one.mode, one.num_nodes) == (other.mode, other.num_nodes)


def _ms(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1e3, 2)
