"""Rounds of the demo pair, recorded and played again on a target that would accept nothing of a real draft's.

The target's laws must be point masses (see `benchmarks/targets.py`), so that what follows a text is known before it is
drafted. A recorded block is then given other tokens: those that stood become the ones that follow, the others become what
does not. Its paths, its tree, its laws' sizes and how many of its tokens stand are the recorded round's; the target and the
decision do all of their work. Knows blocks and decisions; knows nothing of engines or of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cactus_core.block import Block
from cactus_core.coins import Ints
from cactus_core.lattice import LatticeLaws


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """A block, and of it what stood: the first `num_accepted` tokens of path `row`."""

    block: Block
    row: int
    num_accepted: int


def replayed(recorded: Round, base: int, following: Sequence[int], vocab_size: int, rng: np.random.Generator) -> Block:
    """The recorded block at `base`, where `following` (more than the block's length) come next: as much of it stands as stood.

    Each place of the block must have a law of its own, as a drafter's have.
    """
    block, coming = recorded.block, np.asarray(following)
    ids = np.where(block.laws.counts > 0, block.laws.ids + _shift(block.laws, coming, vocab_size, rng), vocab_size)
    tokens = np.take_along_axis(ids[block.law_of], block.choices[..., None], -1)[..., 0]
    stands = block.shares_prefix(before=False)[recorded.row]
    stands[:, recorded.num_accepted :] = False
    for depth in range(recorded.num_accepted):
        law, choice = block.law_of[recorded.row, depth], block.choices[recorded.row, depth]
        ids[law, choice] = coming[depth]
    tokens = np.where(stands, coming[: block.length], tokens)
    order = ids.argsort(-1)
    ids, counts = np.take_along_axis(ids, order, -1), np.take_along_axis(block.laws.counts, order, -1)
    return Block(base, tokens, block.law_of, LatticeLaws(np.where(counts > 0, ids, 0), counts, block.laws.bits))


def _shift(laws: LatticeLaws, following: Ints, vocab_size: int, rng: np.random.Generator) -> int:
    """What to add to the laws' ids so that none of them is in `following`."""
    used = np.unique(laws.ids[laws.counts > 0])
    while True:
        shift = int(rng.integers(vocab_size - used[-1]))
        if not np.isin(following, used + shift).any():
            return shift
