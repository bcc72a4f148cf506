"""What a relaxed response spent of its budget: both sides keep one, and both add up the same numbers.

Knows nats; knows nothing of laws, of tokens or of who spends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

# The part of a budget that is never offered: entries travel as float32, and what rounding adds must not exceed it.
_KEPT_BACK = 2.0**-20


@dataclass(slots=True)
class Ledger:
    """One entry for each emitted token: KL(law it was emitted by || target's law) in nats, or a bound on it; 0 where nothing was relaxed.

    `budget` is the most that all of them may come to, infinite where nobody set one. An entry may be infinite only then.
    """

    budget: float = math.inf
    entries: list[float] = field(default_factory=list, init=False)
    spent: float = field(default=0.0, init=False)

    def charge(self, divergence: Iterable[float]) -> None:
        """Enters tokens that were emitted. Mutates the ledger."""
        for nats in divergence:
            self.entries.append(nats)
            self.spent += nats

    @property
    def left(self) -> float:
        """What the next tokens may spend together: with all of it spent, rounded to float32, `spent` is within the budget."""
        return self.budget if math.isinf(self.budget) else max(self.budget * (1.0 - _KEPT_BACK) - self.spent, 0.0)
