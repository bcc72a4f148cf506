"""How far drafts come true: an empirical survival curve, for every size of them that was tried.

A tree's first n nodes are the best smaller tree, and a path's first tokens a shorter path, so one outcome tells what every smaller
draft would have brought. An outcome that ended because the text or the draft did is censored: how much further it would have led is
not known, and it counts only as far as it went (Kaplan and Meier 1958).
Knows drafts and texts; knows nothing of time, of links or of who decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cactus_core.coins import Floats

_WINDOW = 64  # outcomes remembered: what is drafted well changes along a text
_DEEPEST, _NOWHERE = 64, 1 << 30
_PRIOR_HITS, _PRIOR = 1.2, 2.0  # each further token comes true in 6 of 10 cases, as far as two outcomes would say so


class Survival:
    """Outcomes of drafts, the newest of them."""

    def __init__(self) -> None:
        self._places = np.full((_WINDOW, _DEEPEST), _NOWHERE)
        self._num_drafted, self._is_open = np.zeros(_WINDOW, dtype=np.int64), np.zeros(_WINDOW, dtype=np.bool_)
        self._num_added = 0
        self._curves: dict[tuple[int, ...], dict[int, Floats]] = {}  # asked for oftener than outcomes come

    @property
    def num_outcomes(self) -> int:
        return min(self._num_added, _WINDOW)

    @property
    def largest(self) -> int:
        """The most tokens that any remembered draft had; of larger ones nothing is known."""
        return int(self._num_drafted.max())

    def add(self, places: Sequence[int], num_drafted: int, *, is_open: bool) -> None:
        """Of `num_drafted` tokens, in the drafter's order, those at `places` came true, one after the other. `is_open`: nothing
        contradicted the next, so that it may have come true as well.
        """
        if num_drafted:
            oldest = self._num_added % _WINDOW
            self._places[oldest] = _NOWHERE
            self._places[oldest, : len(places)] = places[:_DEEPEST]
            self._num_drafted[oldest], self._is_open[oldest] = num_drafted, is_open
            self._num_added += 1
            self._curves.clear()

    def curves(self, sizes: Sequence[int]) -> dict[int, Floats]:
        """For each of the ascending `sizes` that was tried, `[D]`: the probability that 1, 2, ... D tokens of such drafts come true.

        Larger drafts are tried less often. What one brings beyond the size before it is told by the outcomes that know both, so
        that few of them say little of the difference, and nothing of the whole.
        """
        key = tuple(sizes)
        if key not in self._curves:
            self._curves[key] = self._curves_of(key)
        return self._curves[key]

    def _curves_of(self, sizes: tuple[int, ...]) -> dict[int, Floats]:
        found: dict[int, Floats] = {}
        before, curve = 0, np.zeros(_DEEPEST)
        for size in sizes:
            if size > self.largest:
                break
            curve = self._reached(size) if not found else curve + self._gained(before, size)
            curve = np.minimum.accumulate(np.clip(curve, 0.0, 1.0))
            found[size], before = curve, size
        return found

    def _reached(self, size: int) -> Floats:
        """The Kaplan-Meier curve of drafts of `size`, as far as any of them went."""
        is_known = self._num_drafted >= size
        places = self._places[is_known]
        lengths = (places < size).sum(-1)
        is_open = self._is_open[is_known] & (lengths == (places < _NOWHERE).sum(-1))
        depths = np.arange(1, 1 + lengths.max())
        reached = (lengths[:, None] >= depths).sum(0)
        at_risk = ((lengths[:, None] >= depths - 1) & ~(is_open[:, None] & (lengths[:, None] == depths - 1))).sum(0)
        curve = np.zeros(_DEEPEST)
        curve[: len(depths)] = np.cumprod((reached + _PRIOR_HITS) / (at_risk + _PRIOR))
        return curve

    def _gained(self, before: int, size: int) -> Floats:
        """How much likelier `size` tokens are to reach each depth than `before`, as if one more outcome had seen no difference."""
        places, depths = self._places[self._num_drafted >= size], np.arange(1, 1 + _DEEPEST)
        small, large = ((places < most).sum(-1)[:, None] >= depths for most in (before, size))
        return np.asarray((large.sum(0) - small.sum(0)) / (1.0 + len(places)))
