"""The codes that rows of numbers travel in, each row in the variant that takes the fewest bits.

*Ascending numbers* are sent as gaps in Golomb-Rice code: a quotient in unary, and a remainder whose width may grow along the
row, since low ids stand closer than high ones. *Counts* of at least 1 with a known sum are sent in exponential Golomb code: a
class in unary, and a mantissa as wide as the class and the row's order together. Rows stand one after the other in flat
arrays; `lengths` `[R]` says how long each is, none of them empty. Knows nothing of laws.
"""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Ints
from cactus_core.errors import InvalidInput

GAP_CODE_BITS, ORDER_BITS = 6, 4
_MAX_COUNT_BITS = 16
_NUM_PARTS = 4
# [code, part]: the width of remainders in each quarter of a row. The code's upper four bits are the first quarter's; its
# lower two say by how much the last quarter's is more.
_WIDTHS = (np.arange(16)[:, None, None] + np.arange(4)[:, None] * np.arange(_NUM_PARTS) // 3).reshape(-1, _NUM_PARTS)


def to_gaps(numbers: Ints, lengths: Ints) -> Ints:
    """Each number's distance from the one before it in its row, less one; a row's first number as it is."""
    gaps = numbers - 1
    gaps[1:] -= numbers[:-1]
    gaps[_starts(lengths)] = numbers[_starts(lengths)]
    return gaps


def from_gaps(gaps: Ints, lengths: Ints) -> Ints:
    numbers = np.cumsum(gaps + 1)
    starts = _starts(lengths)
    return np.asarray(numbers - np.repeat(numbers[starts] - gaps[starts], lengths))


def best_gap_codes(gaps: Ints, lengths: Ints) -> Ints:
    """The code `[R]` in which each row is shortest."""
    parts = _part_lengths(lengths)
    top = int(gaps.max()).bit_length()  # from this width on, all quotients are 0
    quotients = np.append(gaps, 0) >> np.arange(top + 1)[:, None]
    sums = np.add.reduceat(quotients, _starts(parts.ravel()), axis=-1).reshape(-1, *parts.shape)  # [width, R, part]
    sums *= parts > 0  # an empty part's sum is the number that follows it
    widths = _WIDTHS[: 4 * (top + 1)]
    sizes = sums[np.minimum(widths, top), :, np.arange(_NUM_PARTS)] + widths[..., None] * parts.T  # [code, part, R]
    return np.asarray(sizes.sum(1).argmin(0))


def remainder_widths(gap_codes: Ints, lengths: Ints) -> Ints:
    """How many bits of each gap follow its quotient."""
    return np.repeat(_WIDTHS[gap_codes].ravel(), _part_lengths(lengths).ravel())


def best_orders(counts: Ints, lengths: Ints) -> Ints:
    """The order `[R]` in which each row of counts is shortest."""
    starts = _starts(lengths)
    twice_mean = int(np.max(2 * np.add.reduceat(counts, starts) // lengths, initial=0))
    most = twice_mean.bit_length()  # one order more adds a bit to all, and takes two from the counts above it: under half of them
    orders = np.arange(min(most + 1, 1 << ORDER_BITS))[:, None]
    num_bits = _bit_lengths(counts - 1 + (1 << orders))
    sizes = 2 * np.add.reduceat(num_bits, starts, axis=-1) - orders * lengths - np.maximum.reduceat(num_bits, starts, axis=-1)
    return np.asarray(sizes.argmin(0))


def to_classes(counts: Ints, orders: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Each count's class, and the number whose lowest bits are its mantissa."""
    shifted = counts - 1 + np.repeat(1 << orders, lengths)
    return _bit_lengths(shifted) - 1 - np.repeat(orders, lengths), shifted


def mantissa_widths(classes: Ints, orders: Ints, lengths: Ints) -> Ints:
    """How many bits each mantissa has. Raises `InvalidInput` where no count of at most 2**16 has so many."""
    widths = classes + np.repeat(orders, lengths)
    if widths.max(initial=0) > _MAX_COUNT_BITS:
        raise InvalidInput(f"a law's counts must be at most 2^{_MAX_COUNT_BITS}")
    return widths


def where_implied(classes: Ints, lengths: Ints) -> Ints:
    """Where in each row, `[R]`, the count stands that the others imply: the first one of the highest class."""
    starts = _starts(lengths)
    highest = np.flatnonzero(classes == np.repeat(np.maximum.reduceat(classes, starts), lengths))
    return np.asarray(highest[np.searchsorted(highest, starts)])


def from_classes(mantissas: Ints, widths: Ints, orders: Ints, lengths: Ints, implied: Ints, total: int) -> Ints:
    """Counts that add up to `total` in each row. Raises `InvalidInput` where they cannot."""
    counts = mantissas + (1 << widths) - np.repeat((1 << orders) - 1, lengths)
    counts[implied] = 0
    counts[implied] = total - np.add.reduceat(counts, _starts(lengths))
    if ((counts[implied] - 1 + (1 << orders)) >> widths[implied] != 1).any():
        raise InvalidInput(f"a law's counts do not add up to {total}")
    return counts


def _starts(lengths: Ints) -> Ints:
    return np.asarray(np.cumsum(lengths) - lengths)


def _part_lengths(lengths: Ints) -> Ints:
    """`[R, part]`: number i of n is in part floor(4 i / n)."""
    bounds = (lengths[:, None] * np.arange(_NUM_PARTS + 1) + _NUM_PARTS - 1) // _NUM_PARTS
    return np.asarray(bounds[:, 1:] - bounds[:, :-1])


def _bit_lengths(values: Ints) -> Ints:
    """Of values below 2**24, which float32 holds exactly."""
    return np.frexp(values.astype(np.float32))[1].astype(np.int64)
