"""How many replicas of a model there are to be, between a least and a most.

Pure: readings in, a number out. Up when queue or memory stayed beyond a bound for some readings; down, one at a time, after both
stayed far below for long. Between the bounds nothing changes, so that what a change itself does to them brings no other. Knows
nothing of Ray, or of how replicas come and go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cactus_core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Range:
    """How many replicas of each model there may be."""

    least: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise InvalidInput(f"replicas must be a number from 1 on, or MIN:MAX as in 1:4, not {self.least}:{self.most}")

    @classmethod
    def parse(cls, written: str) -> Range:
        """`3`, or `1:4`. Raises `InvalidInput` for all else."""
        found = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", written)
        if found is None:
            raise InvalidInput(f"replicas must be a number from 1 on, or MIN:MAX as in 1:4, not {written!r}")
        return cls(int(found[1]), int(found[2] or found[1]))

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}:{self.most}"


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one model at one moment: replicas that serve, those that load, and means over those that serve."""

    num_serving: int
    num_loading: int
    queue_s: float
    occupancy: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """`num_readings` beyond an upper bound make one more, `cooldown_s` below both lower ones, and since any change, one fewer."""

    high_queue_s: float = 0.5
    high_occupancy: float = 0.8
    low_queue_s: float = 0.05
    low_occupancy: float = 0.4
    num_readings: int = 4
    cooldown_s: float = 60.0

    def __post_init__(self) -> None:
        if not (0 <= self.low_queue_s < self.high_queue_s and 0 <= self.low_occupancy < self.high_occupancy <= 1 and self.num_readings > 0):
            raise InvalidInput("the lower bounds of scaling must lie below the upper ones")


class Scaling:
    """Of one model. `wanted` is asked once a reading, at moments of one clock that never goes back."""

    def __init__(self, within: Range, bounds: Bounds | None = None) -> None:
        self._within, self._bounds = within, bounds or Bounds()
        self._num_high = 0
        self._low_since: float | None = None

    def wanted(self, reading: Reading, now: float) -> int:
        """How many are to serve or to load."""
        num, bounds = reading.num_serving + reading.num_loading, self._bounds
        is_high = reading.queue_s > bounds.high_queue_s or reading.occupancy > bounds.high_occupancy
        # As many as there were would hold the same with one fewer.
        num_after = max(reading.num_serving - 1, 1)
        occupancy_after = reading.occupancy * reading.num_serving / num_after
        is_low = reading.queue_s < bounds.low_queue_s and occupancy_after < bounds.low_occupancy
        self._num_high = self._num_high + 1 if is_high and not reading.num_loading else 0
        if not is_low or reading.num_loading:
            self._low_since = None
        elif self._low_since is None:
            self._low_since = now
        wanted = num
        if self._num_high >= bounds.num_readings:
            wanted = num + 1
        elif self._low_since is not None and now - self._low_since >= bounds.cooldown_s:
            wanted = num - 1
        wanted = min(max(wanted, self._within.least), self._within.most)
        if wanted != num:
            self._num_high, self._low_since = 0, None
        return wanted
