"""What one session adds to a step: nodes after its text, as a chain or a tree, whole or in parts.

Knows tokens, parents and the table they are written into; knows nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cactus_core.errors import InvalidInput
from cloud.pages import PageTable

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One session's new nodes in a step: a chunk of its prompt, a drafted path, a drafted tree or a part of one.

    `tokens` `[n]`, n >= 1. A tree may be read over several steps: `num_before` of its nodes were written by earlier ones,
    into the positions after the table's committed text, and are not committed yet. `parents` `[num_before + n]` names the
    parent of each of them and of each new node, which comes before it; -1 for what follows the committed text. Logits are
    wanted of the last `num_logits` new nodes, of all n unless told. Made here: `depths` `[n]`, how many ancestors a new
    node has, so that its position is `table.num_committed + depth`, and whether the tree `is_chain`. Raises `InvalidInput`.
    """

    table: PageTable
    tokens: Ints
    parents: Ints
    num_logits: int = -1
    num_before: int = 0
    depths: Ints = field(init=False)
    is_chain: bool = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.tokens)
        if n == 0 or self.tokens.shape != (n,) or self.num_before < 0 or self.parents.shape != (self.num_before + n,):
            raise InvalidInput(
                f"a segment needs tokens, and a parent for each and for the {self.num_before} nodes before them: "
                f"{self.tokens.shape}, {self.parents.shape}"
            )
        if not -1 <= self.num_logits <= n:
            raise InvalidInput(f"logits are wanted of {self.num_logits} of {n} nodes")
        object.__setattr__(self, "is_chain", bool((self.parents == np.arange(-1, self.parents.size - 1)).all()))
        object.__setattr__(self, "depths", np.arange(self.num_before, self.parents.size) if self.is_chain else self._tree_depths())
        if self.num_logits == -1:
            object.__setattr__(self, "num_logits", n)

    def _tree_depths(self) -> Ints:
        depths: list[int] = []
        for node, parent in enumerate(self.parents.tolist()):  # trees are small: a loop is faster than array operations
            if not -1 <= parent < node:
                raise InvalidInput(f"node {node} names {parent} as its parent: give an earlier node, or -1 for the text")
            depths.append(0 if parent == -1 else depths[parent] + 1)
        return np.array(depths[self.num_before :])

    @property
    def num_seen(self) -> int:
        """The positions that the segment needs: the committed text, the nodes before it and its own."""
        return self.table.num_committed + self.parents.size


def chain(table: PageTable, tokens: ArrayLike, *, num_logits: int = -1) -> Segment:
    """Tokens `[n]` that follow one another: a chunk of a prompt, a single path, or the one token of plain decoding."""
    row = np.asarray(tokens, dtype=np.int64)
    return Segment(table, row, np.arange(-1, row.size - 1), num_logits)


def ancestry(parents: Ints, first: int = 0) -> NDArray[np.bool_]:
    """`[n - first, n]`, for the nodes from `first` on: whether node j is node i itself or an ancestor of it. Parents come before
    their children.
    """
    if first:  # a few nodes of a large tree: each climbs by itself
        above = np.zeros((parents.size - first, parents.size + 1), dtype=np.bool_)
        row, node = np.arange(parents.size - first), np.arange(first, parents.size)
        while (node >= 0).any():
            above[row, node] = True  # the last place takes the -1 of those that are through
            node = np.where(node >= 0, parents[node], -1)
        return above[:, :-1]
    visible = np.eye(parents.size + 1, dtype=np.bool_)
    # Place 0 stands for the text, node i for place i + 1; each round looks twice as far up, so there are few of them.
    up = np.concatenate([[0], parents + 1])
    while up.any():
        visible |= visible[up]
        up = up[up]
    return visible[1:, 1:]
