"""What things take, as measured: by size, and over the link.

Knows seconds and sizes; knows nothing of what took them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from itertools import accumulate
from statistics import median

_LONG_AGO = 200  # measurements
_FEW = 2  # so many measurements are no sample yet
_ALIKE = 3  # bits of sizes that are not told apart: a hiccup between one and two would be a slope
_KNOWN_TO = 2  # times the largest size that was measured; beyond nothing is known
_PER_SIZE = 7  # of each size: a median of so few follows a change, and forgets a hiccup


class CostBySize:
    """Seconds, or bytes, against a size: medians of what was measured lately, straight lines between them, never falling.

    Sizes are told apart by powers of two. Beyond the largest the last line goes on, to twice that size; of one size alone nothing is known
    of others. What nothing is known of is taken to cost no more, so that it is tried; what was measured long ago is forgotten, so that
    what was slow once is tried again.
    """

    def __init__(self) -> None:
        self._measured: dict[int, deque[tuple[int, float]]] = {}
        self._last_added: dict[int, int] = {}  # of each power of two, which measurement was its last
        self._num_added = 0
        self._sizes: list[float] = []
        self._seconds: list[float] = []

    def __bool__(self) -> bool:
        return bool(self._sizes)

    def add(self, size: int, seconds: float) -> None:
        self._num_added += 1
        kind = max(size.bit_length(), _ALIKE) if size else 0
        self._last_added[kind] = self._num_added
        self._measured.setdefault(kind, deque(maxlen=_PER_SIZE)).append((size, seconds))
        for bits in [bits for bits, last in self._last_added.items() if last <= self._num_added - _LONG_AGO]:
            del self._measured[bits], self._last_added[bits]
        alike = [self._measured[bits] for bits in sorted(self._measured)]
        self._sizes = [median(size for size, _ in own) for own in alike]
        self._seconds = list(accumulate((_typical([seconds for _, seconds in own]) for own in alike), max))

    def age(self) -> None:
        """As much time has gone by as between two measurements, without one."""
        self._num_added += 1

    @property
    def span(self) -> tuple[int, int]:
        """The least and the largest size that are known, once any is."""
        return round(self._sizes[0]), round(self._sizes[-1])

    def at(self, size: int) -> float:
        """Raises `ValueError` before anything was measured."""
        if not self._sizes:
            raise ValueError("nothing was measured yet")
        if len(self._sizes) == 1 or size <= self._sizes[0]:
            return self._seconds[0]
        size = min(size, _KNOWN_TO * math.ceil(self._sizes[-1]))
        after = min(bisect_left(self._sizes, size), len(self._sizes) - 1)
        (left, right), (least, most) = self._sizes[after - 1 : after + 1], self._seconds[after - 1 : after + 1]
        on_the_line = least + (size - left) * (most - least) / (right - left)
        return min(on_the_line, most) if size <= right else max(on_the_line, most)  # rounding makes no larger size cheaper


class CostByWay:
    """The same cost where trees are waited for and where they are not: one's own measurements, and beyond the sizes that they span the
    other's, in proportion. Where edge and verifier share cores, only who waits leaves all of them to the other. As long as nothing was
    waited for, it is taken to cost `untried` of what it costs else.
    """

    def __init__(self, untried: float = 1.0) -> None:
        self._awaited, self._not_awaited, self._untried = CostBySize(), CostBySize(), untried

    def __bool__(self) -> bool:
        return bool(self._awaited or self._not_awaited)

    def add(self, size: int, seconds: float, *, is_awaited: bool) -> None:
        self._of(is_awaited=is_awaited).add(size, seconds)

    def age(self) -> None:
        """See `CostBySize.age`."""
        self._awaited.age()
        self._not_awaited.age()

    def at(self, size: int, *, is_awaited: bool) -> float:
        """Raises `ValueError` before anything was measured."""
        own, other = self._of(is_awaited=is_awaited), self._of(is_awaited=not is_awaited)
        if not own:
            return (self._untried if is_awaited else 1.0) * other.at(size)
        if not other:
            return own.at(size)
        least, most = own.span
        nearest = min(max(size, least), most)
        of_nearest = other.at(nearest)
        return own.at(nearest) * (other.at(size) / of_nearest if of_nearest else 1.0)

    def _of(self, *, is_awaited: bool) -> CostBySize:
        return self._awaited if is_awaited else self._not_awaited


def _typical(seconds: list[float]) -> float:
    """The median; of very few the least, since what disturbs a measurement makes it longer, and a hiccup is not to be a slope."""
    return median(seconds) if len(seconds) > _FEW else min(seconds)


class Recent:
    """The median of the last few of what was measured."""

    def __init__(self, most: int = 5) -> None:
        self._values: deque[float] = deque(maxlen=most)

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, value: float) -> None:
        self._values.append(value)

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(self._values)

    def value(self, default: float) -> float:
        return median(self._values) if self._values else default

    def low(self, default: float) -> float:
        """The lower quartile: for what is seldom measured, and made longer by whatever disturbs it."""
        return sorted(self._values)[len(self._values) // 4] if self._values else default
