"""What followed each run of a few tokens, as counts.

Knows token ids in their order; knows nothing of requests, models or drafts.
"""

from __future__ import annotations

from collections.abc import Sequence

# A longer run is a surer sign, and costs an entry a token.
MAX_ORDER = 5
# How much of the belief goes on to the next shorter run: some, so that a tree has other guesses where one was seen once.
_BACKOFF = 0.2


class NgramCounts:
    """Counts of the next token after each run of 1..`MAX_ORDER` tokens of what was appended. A token costs `MAX_ORDER` updates."""

    def __init__(self) -> None:
        self._last: tuple[int, ...] = ()
        # In each, the token that followed last comes last.
        self._next_of: dict[tuple[int, ...], dict[int, int]] = {}

    def append(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            for start in range(len(self._last)):
                counts = self._next_of.setdefault(self._last[start:], {})
                counts[token] = counts.pop(token, 0) + 1
            self._last = (*self._last, token)[-MAX_ORDER:]

    def law_after(self, context: Sequence[int]) -> dict[int, float]:
        """Each token that ever followed an end of `context`, with its share of the belief: empty, or of sum 1 or less.

        What followed the longest end comes first and has most of it; of equals the latest comes first.
        """
        law: dict[int, float] = {}
        belief = 1.0
        end = tuple(context[-MAX_ORDER:])
        for start in range(len(end)):
            if (counts := self._next_of.get(end[start:])) is None:
                continue
            total = sum(counts.values())
            for token, count in reversed(counts.items()):
                law[token] = law.get(token, 0.0) + belief * (1 - _BACKOFF) * count / total
            belief *= _BACKOFF
        return law
