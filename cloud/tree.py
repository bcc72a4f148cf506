"""What the target reads of drafts: a tree in which each distinct prefix stands once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cactus_core.block import Block
from cactus_core.coins import Ints
from cactus_core.coupled import CoupledTree


@dataclass(frozen=True, slots=True, eq=False)
class DraftTree:
    """`tokens` `[N]` in the order that parents come first, `parents` `[N]` as places in it (-1: the node follows the text).

    Of a block, `node_of` `[K, L]` is the node at which each path stands after each of its tokens. A coupled tree is read as it
    came, its first nodes first, and has no paths: K = L = 0.
    """

    tokens: Ints
    parents: Ints
    node_of: Ints

    @classmethod
    def of(cls, drafts: Block | CoupledTree) -> DraftTree:
        if isinstance(drafts, CoupledTree):
            return cls(drafts.tokens, drafts.parents, np.zeros((0, 0), dtype=np.int64))
        return cls._folded(drafts)

    @classmethod
    def _folded(cls, block: Block) -> DraftTree:
        num_rows, length = block.tokens.shape
        if block.tokens.size == 0:
            nothing = np.zeros(0, dtype=np.int64)
            return cls(nothing, nothing, np.zeros((num_rows, length), dtype=np.int64))
        # Each place is spoken for by the first path that shares its prefix.
        speaker = block.shares_prefix(before=False).argmax(1)
        rows, depths = np.indices((num_rows, length))
        speaks = (speaker == rows).T.ravel()  # depth by depth, so that parents come first
        number = np.cumsum(speaks).reshape(length, num_rows) - 1
        node_of = number[depths, speaker]
        parents = np.concatenate([np.full((num_rows, 1), -1), node_of[:, :-1]], -1)
        return cls(block.tokens.T.ravel()[speaks], parents.T.ravel()[speaks], node_of)

    def node_before(self) -> Ints:
        """`[K, L + 1]`: the node that each of a path's laws is read at, -1 being the end of the text; the last is the bonus token's."""
        return np.concatenate([np.full((len(self.node_of), 1), -1), self.node_of], -1)

    def path(self, row: int, num_tokens: int) -> list[int]:
        """The nodes of the first tokens of a path."""
        return [int(node) for node in self.node_of[row, :num_tokens]] if num_tokens else []
