"""Drawing the rows of a block, a depth at a time.

Knows coins and laws; knows nothing of where the laws come from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cactus_core.block import Block
from cactus_core.coins import Ints, SeededCoins, Site
from cactus_core.lattice import LatticeLaws

# Of paths [K, D] so far and some of their rows [N], the N laws of what follows these.
LawsAfter = Callable[[Ints, Ints], LatticeLaws]


def draw_block(base: int, *, num_rows: int, length: int, seed: int, laws_after: LawsAfter) -> Block:
    """`num_rows` paths of `length` tokens, each drawn independently; both at least 1. Asks once for the law of each prefix."""
    coins = SeededCoins(seeds=[seed] * num_rows, bases=[base] * num_rows, rows=np.arange(num_rows))
    tokens, law_of = np.empty((2, num_rows, length), dtype=np.int64)
    laws: list[LatticeLaws] = []
    num_laws = 0
    agree = np.ones((num_rows, num_rows), dtype=np.bool_)  # whether two rows are the same so far
    for depth in range(length):
        if depth > 0:
            agree &= tokens[:, depth - 1, None] == tokens[None, :, depth - 1]
        first = agree.argmax(-1)  # of the rows that agree, the first one's law holds for all
        leaders, law = np.unique(first, return_inverse=True)
        new = laws_after(tokens[:, :depth], leaders)
        laws.append(new)
        drawn = coins.draw(new.counts[law].astype(np.float64), Site.DRAFT, depth)
        tokens[:, depth] = new.ids[law, drawn]
        law_of[:, depth] = num_laws + law
        num_laws += len(new.ids)
    return Block(base, tokens, law_of, _joined(laws))


def _joined(laws: list[LatticeLaws]) -> LatticeLaws:
    """All laws in one, as wide as the widest."""
    num_laws, width = sum(len(law.ids) for law in laws), max(law.ids.shape[1] for law in laws)
    ids, counts = np.zeros((2, num_laws, width), dtype=np.int64)
    start = 0
    for law in laws:
        place = np.s_[start : start + len(law.ids), : law.ids.shape[1]]
        ids[place], counts[place] = law.ids, law.counts
        start += len(law.ids)
    return LatticeLaws(ids, counts, laws[0].bits)
