"""Blocks as a drafter would make them, from laws that hypothesis or a seed chooses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cactus_core.block import Block
from cactus_core.coins import SeededCoins, Site
from cactus_core.lattice import LatticeLaws, quantise


def random_block(seed: int, *, num_rows: int, length: int, vocab_size: int, support_size: int, bits: int = 8, base: int = 3) -> Block:
    """A block whose law at each prefix is random and the same for all paths that share the prefix."""
    rng = np.random.default_rng(seed)
    coins = SeededCoins(np.full(num_rows, seed), np.full(num_rows, base), np.arange(num_rows))
    tokens, law_of = np.zeros((num_rows, length), dtype=np.int64), np.zeros((num_rows, length), dtype=np.int64)
    laws: list[LatticeLaws] = []
    known: dict[tuple[int, ...], int] = {}
    for depth in range(length):
        for row in range(num_rows):
            prefix = tuple(tokens[row, :depth].tolist())
            if prefix not in known:
                known[prefix] = len(laws)
                laws.append(quantise(rng.dirichlet(np.full(vocab_size, 0.3), 1), support_size, bits))
            law_of[row, depth] = known[prefix]
            law = laws[known[prefix]]
            own = coins.of(np.array([row]))
            tokens[row, depth] = law.ids[0, own.draw(law.counts.astype(float), Site.DRAFT, depth)[0]]
    width = max(law.ids.shape[1] for law in laws)
    ids = np.concatenate([np.pad(law.ids, ((0, 0), (0, width - law.ids.shape[1]))) for law in laws])
    counts = np.concatenate([np.pad(law.counts, ((0, 0), (0, width - law.counts.shape[1]))) for law in laws])
    return Block(base, tokens, law_of, LatticeLaws(ids, counts, bits))


def path_to(parents: Sequence[int], node: int) -> list[int]:
    """The nodes of a tree from the root to `node`, itself included; none for -1, the text."""
    path: list[int] = []
    while node != -1:
        path.append(int(node))
        node = parents[node]
    return path[::-1]
