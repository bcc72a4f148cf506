"""The time that a link lives in: real time, less the time that the link stood still.

Whatever is under way when a link stalls is later by as long as the stall takes, in its queue as on its way, and comes in
the same order: so it is the clock that stalls, and nothing else need know.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from cactus_core.errors import InvalidInput


class LinkClock:
    """`real_time` gives seconds, and never goes back."""

    def __init__(self, real_time: Callable[[], float]) -> None:
        self._real_time = real_time
        self.stalled_until = -math.inf  # in real time
        self._lost_s = 0.0  # by all stalls, the rest of one that lasts included

    def now(self) -> float:
        return max(self._real_time(), self.stalled_until) - self._lost_s

    @property
    def is_stalled(self) -> bool:
        return self._real_time() < self.stalled_until

    def real(self, moment: float) -> float:
        """When in real time the clock will show `moment`, which is to come, if the link does not stall again before."""
        return moment + self._lost_s

    def stall(self, seconds: float) -> None:
        """The clock stands still for so long from now. Of two stalls at once the one that ends later counts."""
        if not 0.0 <= seconds < math.inf:
            raise InvalidInput(f"a link can stall for 0 or more seconds, not {seconds}")
        now = self._real_time()
        until = max(self.stalled_until, now + seconds)
        self._lost_s += until - max(self.stalled_until, now)
        self.stalled_until = until
