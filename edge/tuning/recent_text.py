"""The text of late, as drafts foretold it: how far a tree of so many nodes would have come true from each of its positions.

A text of the coupled family does not depend on its drafts, so what was drafted for it under one plan tells what it would have been under
another. A tree's first n nodes are the best smaller tree, so one tree tells of every smaller one. Where none was drafted the last one
before is taken for typical: while it still led, what was left of it; from where it failed, itself again.
Knows drafts and texts; knows nothing of time, of links or of plans.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, zip_longest
from statistics import fmean

import numpy as np

from edge.tuning.foretold import Foretold

_MOST_DRAFTS = 144
_MOST_TOKENS = 384  # what is drafted well changes along a text; what is known of a short one is luck
_MOST_TYPICAL = 16  # tokens that one draft may stand for


@dataclass(frozen=True, slots=True, order=True)
class _Draft:
    text: int
    base: int
    num_nodes: int
    places: tuple[int, ...]  # of the nodes that came true, in the tree's order
    is_open: bool  # it was followed to the text's end


class RecentText:
    def __init__(self) -> None:
        self._drafts: deque[_Draft] = deque(maxlen=_MOST_DRAFTS)
        self._num_texts = 0

    @property
    def num_drafts(self) -> int:
        return len(self._drafts)

    def begin(self) -> None:
        """Another text begins: its positions have nothing to do with those before."""
        self._num_texts += 1

    def add(self, foretold: Foretold) -> None:
        """A tree that is over, or whose text is."""
        if foretold.num_nodes:
            self._drafts.append(
                _Draft(self._num_texts, foretold.base, foretold.num_nodes, tuple(foretold.places), is_open=not foretold.is_over)
            )

    def reach(self, sizes: Sequence[int]) -> dict[int, list[int]]:
        """For each of the ascending `sizes` that was tried, of each position `[T]`, in order: how many tokens of such a tree come true.

        What a larger tree than was drafted would have led to beyond it is taken from those that were as large, and led as far up to
        there, in turn.
        """
        drafts = sorted(self._drafts)
        spans = np.array(_spans(drafts), dtype=np.int64)
        within = np.concatenate([spans[:0], *(np.arange(span) for span in spans)])
        found: dict[int, list[int]] = {}
        for size, lengths in _lengths(drafts, sizes).items():
            reached = np.repeat(lengths, spans)
            # A tree drafted amid what another foretold reaches farther than was left of that one: about half way to where it would
            # have reached itself, measured on the demo pair.
            found[size] = (reached - within % (reached + 1) // 2)[-_MOST_TOKENS:].tolist()
        return found

    def accepted(self, sizes: Sequence[int]) -> dict[int, float]:
        """For each of the ascending `sizes` that was tried, how many tokens of such a tree come true, on average."""
        return {size: fmean(lengths) for size, lengths in _lengths(sorted(self._drafts), sizes).items()}


def _spans(drafts: Sequence[_Draft]) -> list[int]:
    """How many positions each draft stands for: those up to the next, and of a text's last those that it was followed along."""
    spans = []
    for draft, following in zip_longest(drafts, drafts[1:]):
        if following is not None and following.text == draft.text:
            span = following.base - draft.base
        else:
            span = len(draft.places) + (not draft.is_open)
        spans.append(min(span, _MOST_TYPICAL))
    return spans


def _lengths(drafts: Sequence[_Draft], sizes: Sequence[int]) -> dict[int, list[int]]:
    """For each of the ascending `sizes` that was tried, how many tokens of each draft's first nodes came true, or would have."""
    found: dict[int, list[int]] = {}
    before, lengths = 0, [0] * len(drafts)
    for size in sizes:
        larger = [draft for draft in drafts if draft.num_nodes >= size]
        if not larger:
            break
        alike: dict[tuple[int, int], Iterator[_Draft]] = {}
        for i, draft in enumerate(drafts):
            known = min(draft.num_nodes, size)
            if known >= before:
                lengths[i] = _num_within(draft, known)
            if known < size:
                so_far = max(known, before), lengths[i]
                if so_far not in alike:
                    alike[so_far] = cycle(_nearest(larger, *so_far))
                lengths[i] += _num_within(like := next(alike[so_far]), size) - _num_within(like, so_far[0])
        found[size], before = [*lengths], size
    return found


def _nearest(drafts: Sequence[_Draft], size: int, length: int) -> list[_Draft]:
    """Those of whose first `size` nodes most nearly `length` came true: text is easy in stretches."""
    apart = [abs(_num_within(draft, size) - length) for draft in drafts]
    return [draft for draft, off in zip(drafts, apart, strict=True) if off == min(apart)]


def _num_within(draft: _Draft, size: int) -> int:
    return bisect_left(draft.places, size)  # a path's places rise
