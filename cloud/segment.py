"""What one session adds to a step: nodes after its text, as a chain or a tree.

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
    """One session's new nodes in a step: a chunk of its prompt, a drafted path, a drafted tree.

    `tokens` `[n]`, n >= 1. `parents` `[n]` names each node's parent, which comes before it; -1 for what follows the
    table's committed text. Logits are wanted of the last `num_logits` nodes, of all n unless told. `depths` `[n]` is
    made here: how many ancestors a node has, so that its position is `table.num_committed + depth`. Raises
    `InvalidInput`.
    """

    table: PageTable
    tokens: Ints
    parents: Ints
    num_logits: int = -1
    depths: Ints = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.tokens)
        if n == 0 or self.tokens.shape != (n,) or self.parents.shape != (n,):
            raise InvalidInput(f"a segment needs tokens, and a parent for each: {self.tokens.shape}, {self.parents.shape}")
        if not -1 <= self.num_logits <= n:
            raise InvalidInput(f"logits are wanted of {self.num_logits} of {n} nodes")
        depths: list[int] = []
        for node, parent in enumerate(self.parents.tolist()):
            if not -1 <= parent < node:
                raise InvalidInput(f"node {node} names {parent} as its parent: give an earlier node, or -1 for the text")
            depths.append(0 if parent == -1 else depths[parent] + 1)
        object.__setattr__(self, "depths", np.array(depths, dtype=np.int64))
        if self.num_logits == -1:
            object.__setattr__(self, "num_logits", n)


def chain(table: PageTable, tokens: ArrayLike, *, num_logits: int = -1) -> Segment:
    """Tokens `[n]` that follow one another: a chunk of a prompt, a single path, or the one token of plain decoding."""
    row = np.asarray(tokens, dtype=np.int64)
    return Segment(table, row, np.arange(-1, row.size - 1), num_logits)
