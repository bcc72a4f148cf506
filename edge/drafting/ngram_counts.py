"""What followed each run of a few tokens in a text, as counts.

Knows one text, token by token; knows nothing of requests, models or drafts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cactus_core.coins import Ints

# A longer run is a surer sign, and costs an entry a token.
MAX_ORDER = 5
# How much of the belief goes on to the next shorter run: some, so that a tree has other guesses where one was seen once.
_BACKOFF = 0.2


class NgramCounts:
    """Counts of the next token after each run of 1..`MAX_ORDER` tokens of the text that was read last.

    Of a text that goes on from the one before it only what is new is read, at `MAX_ORDER` updates a token; another is read
    from its start. A run's end is looked for in the text and the path that follows it, its counts in the text alone.
    """

    def __init__(self) -> None:
        self._text: Ints = np.zeros(0, dtype=np.int64)
        self._last: tuple[int, ...] = ()
        # In each, the token that followed last comes last.
        self._next_of: dict[tuple[int, ...], dict[int, int]] = {}

    def read(self, text: Ints) -> None:
        """`text` is kept: the caller must not change it."""
        num_old = len(self._text)
        if not np.array_equal(text[:num_old], self._text):
            self._last, self._next_of, num_old = (), {}, 0
        self._text = text
        for token in text[num_old:].tolist():
            for start in range(len(self._last)):
                counts = self._next_of.setdefault(self._last[start:], {})
                counts[token] = counts.pop(token, 0) + 1
            self._last = (*self._last, token)[-MAX_ORDER:]

    def counts_after(self, path: Sequence[int], least_order: int) -> dict[int, int]:
        """What followed the longest run of `least_order` tokens or more that the text and then `path` end with, if any did."""
        return next(iter(self._counts_after(path, least_order)), {})

    def law_after(self, path: Sequence[int]) -> dict[int, float]:
        """Each token that followed any run that the text and then `path` end with, and its share of the belief; they add up to 1 or less.

        What followed the longest run comes first and has most of it; of equals the latest comes first.
        """
        law: dict[int, float] = {}
        belief = 1.0
        for counts in self._counts_after(path, 1):
            total = sum(counts.values())
            for token, count in reversed(counts.items()):
                law[token] = law.get(token, 0.0) + belief * (1 - _BACKOFF) * count / total
            belief *= _BACKOFF
        return law

    def _counts_after(self, path: Sequence[int], least_order: int) -> list[dict[int, int]]:
        end = (*self._last, *path)[-MAX_ORDER:]
        runs = (end[start:] for start in range(len(end) - least_order + 1))
        return [self._next_of[run] for run in runs if run in self._next_of]
