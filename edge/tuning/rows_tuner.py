"""How many paths to draft, how long, and whether at all: the rejection family's tuner.

A round's tokens cost a step, a round trip and the drafting; without drafts the cloud streams a token a step. What so many paths of such
a length would bring comes from the survival curve of rounds with as many paths: a path that stood whole is censored, since it
says nothing of what a longer one would have brought.
Knows figures and plans; knows nothing of links, of models or of text.
"""

from __future__ import annotations

from dataclasses import dataclass

from cactus_core.session import Limits
from edge.rounds import Round
from edge.tuning.costs import CostBySize, Recent
from edge.tuning.plan import RowsPlan
from edge.tuning.survival import Survival

ALONE = RowsPlan(0, 0)
_LENGTHS = (2, 3, 4, 6, 8)
_ROWS = (1, 2, 4)
_TRIALS = 3  # rounds with each number of paths before any is judged
_TRIALS_BEFORE_ALONE = 24  # rounds before drafting is given up, which is for good
_MARGIN = 1.05
_LONGER = 12  # rounds between two that are longer than planned, for the sake of learning


@dataclass(frozen=True, slots=True)
class RowsForecast:
    plan: RowsPlan
    tokens_per_s: float
    tokens_per_round: float


class RowsTuner:
    """Chooses plans for one endpoint; what it learns outlives a request. One caller at a time."""

    def __init__(self, limits: Limits, support_size: int, *, fixed: RowsPlan | None = None) -> None:
        """No plan exceeds what an endpoint takes, its `limits`, in laws of `support_size` tokens. With a `fixed` plan it only watches."""
        most = limits.max_law_tokens // support_size
        self._limits, self._most, self._fixed = limits, most, fixed
        self._survival = {num_rows: Survival() for num_rows in _ROWS if num_rows <= min(limits.max_rows, most)}
        self._step, self._draft, self._round_trip = CostBySize(), CostBySize(), Recent()
        self._current = self._bounded(fixed or RowsPlan(max(self._survival), _LENGTHS[len(_LENGTHS) // 2]))
        self._planned = self._current
        self._num_rounds = 0

    def next(self) -> RowsPlan:
        """What to draft next; `ALONE` where the cloud had better decode by itself."""
        self._planned = self._current if self._fixed else self._bounded(self._next())
        return self._planned

    def _next(self) -> RowsPlan:
        self._num_rounds += 1
        num_rows, length = self._current.num_rows, self._current.length
        untried = [each for each, own in self._survival.items() if own.num_outcomes < _TRIALS]
        if untried:
            return RowsPlan(untried[-1], _LENGTHS[-1])  # tells of every shorter one, before off is judged better for good
        if num_rows and self._num_rounds % _LONGER == 0:
            return RowsPlan(num_rows, next((longer for longer in _LENGTHS if longer > length), length))
        return self._current

    def _bounded(self, plan: RowsPlan) -> RowsPlan:
        num_rows = min(plan.num_rows, self._limits.max_rows)
        return RowsPlan(num_rows, min(plan.length, self._limits.max_length, self._most // max(num_rows, 1)))

    def saw(self, done: Round) -> None:
        """The round that was planned last is over; near a text's end it may have been shorter."""
        self._step.add(done.num_drafted, done.verify_s)
        away = max(done.wait_s - done.verify_s - done.queue_s, 0.0)
        if not done.num_drafted:
            return
        self._draft.add(done.num_drafted, done.draft_s)
        self._round_trip.add(away)
        survival = self._survival.setdefault(self._planned.num_rows, Survival())
        survival.add(range(done.num_accepted), done.length, is_open=done.num_accepted == done.length)
        if self._fixed is None:
            self._choose()

    def forecasts(self) -> list[RowsForecast]:
        """What each plan would bring, the best first; empty while too little is known."""
        if not self._draft or any(own.num_outcomes < _TRIALS for own in self._survival.values()):
            return []
        found = [RowsForecast(ALONE, 1.0 / self._step.at(0), 1.0)]
        for num_rows, survival in self._survival.items():
            for length in (length for length in _LENGTHS if length <= survival.largest):
                tokens = 1.0 + float(survival.curves(_LENGTHS)[length].sum())
                took = self._step.at(num_rows * length) + self._draft.at(num_rows * length) + self._round_trip.value(0.0)
                found.append(RowsForecast(RowsPlan(num_rows, length), tokens / took, tokens))
        return sorted(found, key=lambda forecast: -forecast.tokens_per_s)

    def explain(self) -> dict[str, object]:
        """What it believes and chose, in plain figures."""
        return {
            "mode": "rounds" if self._current.num_rows else "off",
            "num_rows": self._current.num_rows,
            "length": self._current.length,
            "round_trip_ms": round(self._round_trip.value(0.0) * 1e3, 2),
            "expected": [
                {
                    "num_rows": forecast.plan.num_rows,
                    "length": forecast.plan.length,
                    "tokens_per_s": round(forecast.tokens_per_s, 1),
                    "tokens_per_round": round(forecast.tokens_per_round, 2),
                }
                for forecast in self.forecasts()[:4]
            ],
        }

    def _choose(self) -> None:
        forecasts = self.forecasts()
        if sum(own.num_outcomes for own in self._survival.values()) < _TRIALS_BEFORE_ALONE:
            forecasts = [forecast for forecast in forecasts if forecast.plan != ALONE]
        if not forecasts:
            return
        here = next((forecast for forecast in forecasts if forecast.plan == self._current), None)
        if here is None or forecasts[0].tokens_per_s > _MARGIN * here.tokens_per_s:
            self._current = forecasts[0].plan
