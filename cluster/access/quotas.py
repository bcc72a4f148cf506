"""How much one caller may take, and what it has taken.

Knows counts and moments, as it is told them; knows nothing of clocks, of streams or of who the caller is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from cactus_core.errors import InvalidInput, LimitExceeded


@dataclass(frozen=True, slots=True)
class Quota:
    """Of one caller; infinity is no limit.

    `positions_per_s` are what the model reads for it: prompts, drafts, and a token for each decision; `positions_burst` of them may come
    at once. `num_positions` are held by its open streams together, in prompts and texts. Drafts of which, over `waste_window`
    of them, a smaller share stood than `least_accepted` are left out for `throttled_s`.
    """

    positions_per_s: float = math.inf
    positions_burst: float = math.inf
    num_streams: float = math.inf
    num_positions: float = math.inf
    opens_per_s: float = math.inf
    opens_burst: float = math.inf
    least_accepted: float = 0.01
    waste_window: int = 4096
    throttled_s: float = 30.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise InvalidInput(f"quota {each.name} must be a number of 0 or more, not {value!r}")
            if value == 0 and each.name != "least_accepted":
                raise InvalidInput(f"quota {each.name} is 0, which would let nothing through; leave the caller out instead")
        if math.isinf(self.positions_burst) != math.isinf(self.positions_per_s):
            raise InvalidInput("quotas positions_per_s and positions_burst go together")
        if math.isinf(self.opens_burst) != math.isinf(self.opens_per_s):
            raise InvalidInput("quotas opens_per_s and opens_burst go together")


# Of a caller of whom nothing is known but its host: generous to people behind one address, and an end to floods.
OF_A_HOST = Quota(num_streams=2048, opens_per_s=50, opens_burst=2048)


class Bucket:
    """A token bucket: fills at `rate` a second up to `burst`, and may be overdrawn by whoever still found something in it."""

    __slots__ = ("_burst", "_level", "_rate", "_seen")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._seen = burst, now

    def level(self, now: float) -> float:
        if math.isinf(self._rate):
            return math.inf
        self._level = min(self._burst, self._level + self._rate * max(now - self._seen, 0.0))
        self._seen = max(now, self._seen)
        return self._level

    def take(self, count: float, now: float) -> None:
        self._level = self.level(now) - count

    def wait_s(self, now: float) -> float:
        """Until there is one again, or all that it can hold if that is less; 0 when there is."""
        missing = min(1.0, self._burst) - self.level(now)
        return missing / self._rate if missing > 0.0 else 0.0

    def is_overdrawn(self, now: float) -> bool:
        """By as much as it holds when full."""
        return self.level(now) <= -self._burst

    def adjust(self, rate: float, burst: float, now: float) -> None:
        """Another quota from now on: what is in it stays, as far as it may."""
        level = self.level(now)
        self._rate, self._burst = rate, burst
        self._level = burst if math.isinf(level) else min(level, burst)


class Use:
    """What a caller of this `name` takes of its `quota`."""

    __slots__ = ("_accepted", "_drafted", "_opens", "_positions", "_throttled_until", "name", "num_held", "num_streams", "quota")

    def __init__(self, name: str, quota: Quota, now: float) -> None:
        self.name, self.quota = name, quota
        self.num_streams = 0
        self.num_held = 0
        self._opens = Bucket(quota.opens_per_s, quota.opens_burst, now)
        self._positions = Bucket(quota.positions_per_s, quota.positions_burst, now)
        self._drafted = self._accepted = 0
        self._throttled_until = -math.inf

    def adjust(self, quota: Quota, now: float) -> None:
        """Another quota from now on."""
        if quota != self.quota:
            self.quota = quota
            self._opens.adjust(quota.opens_per_s, quota.opens_burst, now)
            self._positions.adjust(quota.positions_per_s, quota.positions_burst, now)

    def is_idle(self, now: float) -> bool:
        """Whether forgetting it would change nothing."""
        rested = self._opens.level(now) >= self.quota.opens_burst and self._positions.level(now) >= self.quota.positions_burst
        return rested and not self.num_streams and self._throttled_until <= now

    def check_open(self, now: float) -> None:
        """Raises `LimitExceeded` where another stream would be over quota. An attempt costs nothing."""
        if wait_s := self._opens.wait_s(now):
            raise _exceeded(f"{self.name} opens more than {self.quota.opens_per_s:g} streams a second", wait_s)
        if self.num_streams >= self.quota.num_streams:
            raise _exceeded(f"{self.name} has {self.num_streams} streams open, as many as it may", 1.0)
        if self.num_held >= self.quota.num_positions:
            raise _exceeded(f"{self.name} holds {self.num_held} positions of prompts and texts, as many as it may", 1.0)
        if wait_s := self._positions.wait_s(now):
            raise _exceeded(f"{self.name} is over its {self.quota.positions_per_s:g} positions a second", wait_s)

    def opened(self, now: float) -> None:
        self._opens.take(1.0, now)
        self.num_streams += 1

    def asked(self, now: float) -> None:
        """A call that is no stream."""
        if wait_s := self._opens.wait_s(now):
            raise _exceeded(f"{self.name} asks more than {self.quota.opens_per_s:g} times a second", wait_s)
        self._opens.take(1.0, now)

    def check_asked(self, count: int) -> None:
        """Raises `LimitExceeded` where a stream's prompt and committed text, `count` tokens, are more than there is room for."""
        most = self.quota.num_positions
        if count > most:
            raise LimitExceeded(f"{self.name} may hold {most:g} positions, and this prompt alone has {count}; shorten it")
        if self.num_held + count > most:
            raise _exceeded(f"{self.name} holds {self.num_held} positions of {most:g}, which leaves no room for {count} more", 1.0)

    def closed(self) -> None:
        self.num_streams -= 1

    def charge(self, num_positions: int, now: float) -> None:
        self._positions.take(num_positions, now)

    def check_running(self, now: float) -> None:
        """Raises `LimitExceeded` where an open stream has to end. What was let in may overdraw by one burst, so that a text gets on
        between two cuts.
        """
        if self._positions.is_overdrawn(now):
            raise _exceeded(f"{self.name} is over its {self.quota.positions_per_s:g} positions a second", self._positions.wait_s(now))
        if self.num_held > self.quota.num_positions:
            raise _exceeded(f"{self.name} holds more than {self.quota.num_positions:g} positions of prompts and texts", 1.0)

    def drafted(self, num_nodes: int) -> None:
        self._drafted += num_nodes

    def accepted(self, count: int, now: float) -> None:
        """So many drafted tokens stand. Judges the drafts once there are enough."""
        self._accepted += count
        if self._drafted >= self.quota.waste_window:
            if self._accepted < self.quota.least_accepted * self._drafted:
                self._throttled_until = now + self.quota.throttled_s
            self._drafted = self._accepted = 0

    def is_throttled(self, now: float) -> bool:
        """Whether its drafts are to be left out."""
        return now < self._throttled_until


def _exceeded(what: str, retry_after_s: float) -> LimitExceeded:
    return LimitExceeded(f"{what}; try again in {max(retry_after_s, 0.001):.3f} s", max(retry_after_s, 0.001))
