"""The text of late, as drafts foretold it: how far a tree of so many nodes would have come true from each of its positions.

A text of the coupled family does not depend on its drafts, so what was drafted for it under one plan tells what it would have been under
another. A tree's first n nodes are the best smaller tree, so one tree tells of every smaller one. Where none was drafted the last one
before is taken for typical: while it still led, what was left of it; from where it failed, itself again.
Knows drafts and texts; knows nothing of time, of links or of plans.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from cactus_core.coins import Ints
from edge.tuning.foretold import Foretold

_MOST_DRAFTS = 144
_MOST_TOKENS = 384  # what is drafted well changes along a text; what is known of a short one is luck
_MOST_TYPICAL = 16  # tokens that one draft may stand for
_NOWHERE = 1 << 20  # beyond every tree's last place


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
        return {size: float(lengths.mean()) for size, lengths in _lengths(sorted(self._drafts), sizes).items()}


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


def _lengths(drafts: Sequence[_Draft], sizes: Sequence[int]) -> dict[int, Ints]:
    """For each of the ascending `sizes` that was tried, how many tokens of each draft's first nodes came true, or would have `[N]`."""
    found: dict[int, Ints] = {}
    num_nodes = np.array([draft.num_nodes for draft in drafts], dtype=np.int64)
    places = np.full((len(drafts), max((len(draft.places) for draft in drafts), default=0)), _NOWHERE)
    for row, draft in zip(places, drafts, strict=True):
        row[: len(draft.places)] = draft.places
    before, lengths = 0, np.zeros_like(num_nodes)
    for size in sizes:
        larger = places[num_nodes >= size]
        if not len(larger):
            break
        known = np.minimum(num_nodes, size)
        lengths = np.where(known >= before, _num_within(places, known[:, None]), lengths)
        smaller = np.flatnonzero(known < size)
        if smaller.size:
            lengths[smaller] += _num_beyond(larger, size, np.maximum(known[smaller], before), lengths[smaller])
        found[size], before = lengths.copy(), size
    return found


def _num_beyond(larger: Ints, size: int, known: Ints, lengths: Ints) -> Ints:
    """For each `[n]` of those of whose first `known` nodes `lengths` came true, how many more of the first `size` would have: as many as
    of those among the `larger` trees' places `[N, P]` of which as many came true, in turn, or most nearly. Text is easy in stretches.
    """
    num_more, up_to_size = np.zeros_like(lengths), _num_within(larger, size)
    kinds, kind_of = np.unique(np.stack([known, lengths]), axis=1, return_inverse=True)
    for kind, (nodes, length) in enumerate(kinds.T.tolist()):
        up_to_known = _num_within(larger, nodes)
        apart = np.abs(up_to_known - length)
        alike = apart == apart.min()
        own = kind_of == kind
        num_more[own] = np.resize(up_to_size[alike] - up_to_known[alike], np.count_nonzero(own))
    return num_more


def _num_within(places: Ints, size: int | Ints) -> Ints:
    """`[N]`: how many of each row's `places` `[N, P]` are among the first `size` nodes."""
    return np.asarray((places < size).sum(-1))
