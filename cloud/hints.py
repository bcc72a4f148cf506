"""What the edge of one text guesses of it, and when the text goes on without guesses.

Under shared noise the text does not depend on what is drafted, so that trees may come late, twice, out of order or not at
all: the newest counts, and of it what follows the text as it stands.
Knows trees, and moments as it is told them; knows nothing of clocks, threads, steps or streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cactus_core.coupled import CoupledTree, empty_tree, rerooted
from cactus_core.errors import InvalidInput
from cactus_core.session import Hint

_PRESENT_S = 1.0  # an edge that sent nothing for so long is not counted on


class Hints:
    """The newest hint on one text of `num_prompt` tokens and more, `longest` at most. Moments are seconds on one clock, as is `now`.

    Until a hint says otherwise the text waits `wait_s` for the next. Trees are cut to what can stand: drafts end before the last
    token that may come, since the target adds one, and text and nodes have `num_positions` together.
    """

    def __init__(self, num_prompt: int, longest: int, num_positions: int, wait_s: float, now: float) -> None:
        self._num_prompt, self._longest, self._num_positions = num_prompt, longest, num_positions
        self._wait_s = wait_s
        self._decided = now
        self._heard = -math.inf
        self._round = -1
        self._base = -1  # as the newest tree came
        self._left: CoupledTree | None = None  # what of it may still come true, as far as the text was followed

    @property
    def round(self) -> int:
        """The newest hint's; 0 before any."""
        return max(self._round, 0)

    @property
    def heard(self) -> float:
        """When the newest hint came; -infinity before any."""
        return self._heard

    @property
    def present_until(self) -> float:
        """Up to then the edge may be counted on to send more."""
        return self._heard + _PRESENT_S

    def take(self, hint: Hint, length: int, now: float) -> bool:
        """A hint came when the text was `length` tokens long: whether it is the newest. An older one changes nothing, nor one that
        comes again.

        Raises `InvalidInput` when it starts within the prompt, or beyond the text.
        """
        tree = hint.tree
        if not self._num_prompt <= tree.base <= length:
            raise InvalidInput(
                f"a tree starts at position {tree.base}, but what was emitted goes from {self._num_prompt} to {length}; draft from there"
            )
        if hint.round <= self._round:
            return False
        self._round, self._base, self._wait_s, self._heard = hint.round, tree.base, hint.wait_s, now
        self._left = _cut(tree, self._longest - tree.base - 1, self._num_positions - tree.base)
        return True

    def decided(self, now: float) -> None:
        """The text went on."""
        self._decided = now

    def tree(self, text: Sequence[int]) -> CoupledTree:
        """What of the newest tree follows the text. Texts only grow from one call to the next."""
        self._follow(text)
        return self._left or empty_tree(len(text))

    def is_in_gap(self, text: Sequence[int]) -> bool:
        """Whether nobody drafted, or asked for, what comes next: a tree that starts where the text ends asks for it, even an empty one."""
        self._follow(text)
        return self._left is None and self._base != len(text)

    def due(self, text: Sequence[int]) -> float:
        """From when on the text is to go on: infinity when only a hint can tell."""
        if self.is_in_gap(text):
            return self._decided + self._wait_s
        return max(self._heard, self._decided)

    def _follow(self, text: Sequence[int]) -> None:
        if self._left is not None and self._left.base < len(text):
            self._left = rerooted(self._left, np.array(text[self._left.base :], dtype=np.int64))
        if self._left is not None and not self._left.tokens.size:
            self._left = None


def _cut(tree: CoupledTree, max_depth: int, max_nodes: int) -> CoupledTree:
    """Those of its first `max_nodes` nodes that are no deeper than `max_depth`: parents come first, so that they are a tree."""
    if len(tree.tokens) <= min(max_depth, max_nodes):
        return tree
    first = CoupledTree(tree.base, tree.tokens[:max_nodes], tree.parents[:max_nodes])
    is_kept = first.depths <= max_depth
    number, parents = np.cumsum(is_kept) - 1, first.parents[is_kept]
    return CoupledTree(tree.base, first.tokens[is_kept], np.where(parents < 0, -1, number[parents]))
