"""Medians of repeated timings, with intervals that assume nothing of how the machine's noise is spread.

Knows numbers; knows nothing of what was timed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cluster.figures import Case, Figures

_MISSED = 0.05


def add_median(figures: Figures, case: Case, metric: str, values: Sequence[float], unit: str) -> float:
    """Adds the median of independent `values`, and returns it."""
    low, median, high = median_interval(values)
    figures.add(case | {"repeats": len(values)}, metric, median, unit, low=low, high=high)
    return median


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median between two of the values that hold the true one with 95%, or the extremes of fewer than six, with 1 - 2^(1-n).

    As many values lie below the true median as a fair coin has heads: the binomial law says how many to leave out at each end.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, num_out = len(ordered), 0
    below = 0.5**n  # the probability that at most `num_out` values lie below
    while num_out + 1 < (n + 1) // 2 and below + math.comb(n, num_out + 1) * 0.5**n <= _MISSED / 2:
        num_out += 1
        below += math.comb(n, num_out) * 0.5**n
    return float(ordered[num_out]), float(np.median(ordered)), float(ordered[n - 1 - num_out])
