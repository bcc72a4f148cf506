"""A drafted tree beside the text that then came: which of its nodes came true.

Knows one tree and the text after its base; knows nothing of time, of links or of what is learnt from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cactus_core.coupled import CoupledTree


class Foretold:
    """A drafted tree, followed along the text as it comes."""

    def __init__(self, tree: CoupledTree) -> None:
        self._tree, self._node = tree, -1
        self.base, self.num_nodes = tree.base, len(tree.tokens)
        self.places: list[int] = []  # in the tree's order, of its nodes that came true
        self.is_over = False

    def follow(self, tokens: Sequence[int]) -> None:
        """`tokens` come next in the text."""
        for token in tokens:
            if self.is_over:
                return
            found = np.flatnonzero((self._tree.parents == self._node) & (self._tree.tokens == token))
            if found.size:
                self._node = int(found[0])
                self.places.append(self._node)
            else:
                self.is_over = True
