"""What something costs by its size: a few measured places, straight lines between them.

Knows sizes and seconds; knows nothing of what takes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from cactus_core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class CostTable:
    """Seconds at sizes. Below the smallest it is the smallest's; beyond the largest the last line goes on.

    Raises `InvalidInput` where a cost is no time, or falls as the size grows; `name` is what the message calls the table.
    """

    name: str
    seconds: Mapping[int, float]
    _sizes: tuple[int, ...] = field(init=False, repr=False)
    _costs: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.seconds:
            raise InvalidInput(f"{self.name} is empty; give it at least one size and its seconds")
        places = sorted(self.seconds.items())
        if places[0][0] < 0 or not all(0.0 <= seconds < math.inf for _, seconds in places):
            raise InvalidInput(f"{self.name} takes sizes of 0 and more to seconds of 0 and more, not {dict(places)}")
        for (small, less), (large, more) in pairwise(places):
            if more < less:
                raise InvalidInput(f"{self.name} falls from {less} s at {small} to {more} s at {large}; more cannot cost less")
        object.__setattr__(self, "_sizes", tuple(size for size, _ in places))
        object.__setattr__(self, "_costs", tuple(seconds for _, seconds in places))

    def at(self, size: float) -> float:
        sizes, costs = self._sizes, self._costs
        if size <= sizes[-1] or len(sizes) == 1:
            return float(np.interp(size, sizes, costs))
        slope = (costs[-1] - costs[-2]) / (sizes[-1] - sizes[-2])
        return costs[-1] + slope * (size - sizes[-1])
