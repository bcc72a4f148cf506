"""The shared noise of one request over the whole vocabulary, each position's made once.

Nodes of one depth share their noise, and so do the trees of neighbouring texts. Knows nothing of laws, trees or models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Ints
from cactus_core.gumbel import gumbel

_NUM_POSITIONS = 128  # remembered


class KnownNoise:
    """`gumbel(seed, position, token)` of all tokens below `vocab_size`, in float32. The positions asked for last are remembered."""

    def __init__(self, seed: int, vocab_size: int) -> None:
        self.seed = seed
        self._tokens = np.arange(vocab_size)
        self._noise: dict[int, NDArray[np.float32]] = {}

    def __call__(self, positions: Ints) -> NDArray[np.float32]:
        """`[M, V]`, of `positions` `[M]`."""
        return np.stack([self._at(position) for position in positions.tolist()])

    def make(self, position: int) -> None:
        """So that it need not be made when it is asked for."""
        if position not in self._noise:
            self._at(position)

    def _at(self, position: int) -> NDArray[np.float32]:
        noise = self._noise.pop(position, None)
        if noise is None:
            noise = gumbel(self.seed, position, self._tokens).astype(np.float32)
            if len(self._noise) == _NUM_POSITIONS:
                del self._noise[next(iter(self._noise))]  # the one that was not asked for the longest
        self._noise[position] = noise
        return noise
