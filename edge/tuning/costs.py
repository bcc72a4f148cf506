"""What things take, as measured: by size, and over the link.

Knows seconds and sizes; knows nothing of what took them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median

_LONG_AGO = 200  # measurements
_FEW = 2  # so many measurements are no sample yet
_ALIKE = 3  # bits of sizes that are not told apart: a hiccup between one and two would be a slope
_KNOWN_TO = 2  # times the largest size that was measured; beyond nothing is known
_PER_SIZE = 7  # of each size: a median of so few follows a change, and forgets a hiccup


def typical(seconds: Sequence[float]) -> float:
    """The median; of very few the least, since what disturbs a measurement makes it longer, and a hiccup is not to be a slope."""
    return median(seconds) if len(seconds) > _FEW else min(seconds)


def upper(seconds: Sequence[float]) -> float:
    """The upper quartile: for what takes next to nothing at times, where the other times count."""
    return sorted(seconds)[3 * len(seconds) // 4]


class CostBySize:
    """Seconds, or bytes, against a size: medians of what was measured lately, straight lines between them, never falling.

    Sizes are told apart by powers of two. Where a larger one was measured to take less, both stand at what they take together, so that of
    the two the one counts more of which more is known. Beyond the largest the last line goes on, to twice that size; of one size alone
    nothing is known of others. What nothing is known of is taken to cost no more, so that it is tried; what was measured long ago is
    forgotten, so that what was slow once is tried again.
    """

    def __init__(self, summed_up: Callable[[Sequence[float]], float] = typical) -> None:
        """`summed_up` makes one figure of what was measured for a size."""
        self._summed_up = summed_up
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
        self._sum_up()

    def _sum_up(self) -> None:
        for bits in [bits for bits, last in self._last_added.items() if last <= self._num_added - _LONG_AGO]:
            del self._measured[bits], self._last_added[bits]
        alike = [self._measured[bits] for bits in sorted(self._measured)]
        self._sizes = [median(size for size, _ in own) for own in alike]
        summed_up = [self._summed_up([seconds for _, seconds in own]) for own in alike]
        self._seconds = _never_falling(summed_up, [len(own) for own in alike])

    def age(self) -> None:
        """As much time has gone by as between two measurements, without one. Nothing is forgotten before the next, or `forget`."""
        self._num_added += 1

    def forget(self) -> None:
        """What was measured long ago, all of it perhaps."""
        if any(last <= self._num_added - _LONG_AGO for last in self._last_added.values()):
            self._sum_up()

    @property
    def is_little_known(self) -> bool:
        """So few measurements, of all sizes, that one of them may be what is believed."""
        return sum(map(len, self._measured.values())) <= _FEW

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
    waited for, it is taken to cost `untried` of what it costs else; and whichever way little is known of to cost no more than the other,
    since a hiccup at its first try would be the end of it. A way that was not gone for long is forgotten.
    """

    def __init__(self, untried: float = 1.0, not_awaited: Callable[[Sequence[float]], float] = typical) -> None:
        """`not_awaited` makes one figure of what was measured for a size where trees are not waited for."""
        self._awaited, self._not_awaited, self._untried = CostBySize(), CostBySize(not_awaited), untried

    def __bool__(self) -> bool:
        return bool(self._awaited or self._not_awaited)

    def add(self, size: int, seconds: float, *, is_awaited: bool) -> None:
        self._of(is_awaited=is_awaited).add(size, seconds)
        other = self._of(is_awaited=not is_awaited)
        other.age()
        other.forget()

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
        if not of_nearest:
            return own.at(nearest)
        in_proportion = own.at(nearest) * other.at(size) / of_nearest
        return min(in_proportion, other.at(size)) if own.is_little_known else in_proportion

    def _of(self, *, is_awaited: bool) -> CostBySize:
        return self._awaited if is_awaited else self._not_awaited


def _never_falling(seconds: Sequence[float], num_measured: Sequence[int]) -> list[float]:
    """The nearest that never falls, by squares: neighbours that do are put at their mean (isotonic regression)."""
    alike: list[tuple[float, int, int]] = []  # seconds, measurements, sizes
    for group in zip(seconds, num_measured, [1] * len(seconds), strict=True):
        alike.append(group)
        while len(alike) > 1 and alike[-2][0] > alike[-1][0]:
            (before, num_before, sizes_before), (own, num, sizes) = alike[-2:]
            alike[-2:] = [((num_before * before + num * own) / (num_before + num), num_before + num, sizes_before + sizes)]
    return [own for own, _, num_sizes in alike for _ in range(num_sizes)]


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
