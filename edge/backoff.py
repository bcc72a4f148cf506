"""How long to wait before the next try, when the other side is gone.

Knows time and chance; knows nothing of what is tried.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Waits that double up to `most_s`, each drawn between nothing and its length ("full jitter"), so that edges which lost the same
    gateway do not come back all at once. Gives up `patience_s` after the first failure since the last success.
    """

    patience_s: float = 30.0
    first_s: float = 0.1
    most_s: float = 3.0
    _num_failures: int = field(default=0, init=False)
    _since: float = field(default=0.0, init=False)

    def succeeded(self) -> None:
        self._num_failures = 0

    def failed(self, at_least_s: float = 0.0) -> float | None:
        """Seconds to wait before another try, no fewer than the other side asked for; None when patience is at its end, or would be."""
        now = time.monotonic()
        if not self._num_failures:
            self._since = now
        self._num_failures += 1
        if now - self._since + at_least_s >= self.patience_s:
            return None
        longest_s = min(self.most_s, self.first_s * 2.0 ** min(self._num_failures - 1, 64))  # a power that is still a float
        return at_least_s + random.uniform(0.0, longest_s)  # noqa: S311  # no secret rests on it
