"""What things take, as measured: by size, and over the link.

Knows seconds and sizes; knows nothing of what took them.
"""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np

_PER_SIZE = 7  # of each size: a median of so few follows a change, and forgets a hiccup


class CostBySize:
    """Seconds against a size: medians of what was measured lately, straight lines between them, never falling.

    Sizes are told apart by powers of two. Beyond the largest the last line goes on; of one size alone nothing is known of others, and
    they are taken to cost the same.
    """

    def __init__(self) -> None:
        self._measured: dict[int, deque[tuple[int, float]]] = {}

    def __bool__(self) -> bool:
        return bool(self._measured)

    def add(self, size: int, seconds: float) -> None:
        self._measured.setdefault(size.bit_length(), deque(maxlen=_PER_SIZE)).append((size, seconds))

    def at(self, size: int) -> float:
        """Raises `ValueError` before anything was measured."""
        points = [(median(s for s, _ in own), median(t for _, t in own)) for _, own in sorted(self._measured.items())]
        if not points:
            raise ValueError("nothing was measured yet")
        sizes, seconds = np.array(points, dtype=np.float64).T
        seconds = np.maximum.accumulate(seconds)
        if size > sizes[-1] and len(sizes) > 1:
            return float(seconds[-1] + (size - sizes[-1]) * (seconds[-1] - seconds[-2]) / (sizes[-1] - sizes[-2]))
        return float(np.interp(size, sizes, seconds))


class Recent:
    """The median of the last few of what was measured."""

    def __init__(self, most: int = 5) -> None:
        self._values: deque[float] = deque(maxlen=most)

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, value: float) -> None:
        self._values.append(value)

    def value(self, default: float) -> float:
        return median(self._values) if self._values else default
