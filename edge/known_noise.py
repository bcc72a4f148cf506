"""The shared noise of one request, each number made once.

Nodes of one depth share their noise, and so do the trees of neighbouring texts: only what no earlier tree asked for is made.
Knows nothing of laws, trees or models.
"""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Bools, Floats, Ints
from cactus_core.gumbel import gumbel


class KnownNoise:
    """`partial(gumbel, seed)` for `positions` and `tokens` below `vocab_size`, with memory for `num_positions` positions in a row."""

    def __init__(self, seed: int, vocab_size: int, num_positions: int) -> None:
        self.seed, self.num_positions = seed, num_positions
        self._vocab_size = vocab_size
        # Position p has the row p % num_positions while that is the last asked for of those that share the row.
        self._position_of = np.full(num_positions, -1)
        self._noise: Floats = np.zeros(num_positions * vocab_size)
        self._is_known: Bools = np.zeros(num_positions * vocab_size, dtype=np.bool_)

    def __call__(self, positions: Ints, tokens: Ints) -> Floats:
        """As `cactus_core.gumbel.gumbel`; no two positions may be `num_positions` or more apart."""
        rows = positions % self.num_positions
        stale = np.unique(rows[self._position_of[rows] != positions])
        self._is_known.reshape(self.num_positions, -1)[stale] = False
        self._position_of[rows] = positions
        places = np.broadcast_to(rows * self._vocab_size + tokens, np.broadcast_shapes(rows.shape, tokens.shape))
        new = places[~self._is_known[places]]
        if new.size:
            asked = np.zeros(self._is_known.shape, dtype=np.bool_)
            asked[new] = True
            new = np.flatnonzero(asked)  # each once
            self._noise[new] = gumbel(self.seed, self._position_of[new // self._vocab_size], new % self._vocab_size)
            self._is_known[new] = True
        return self._noise[places]
