"""Counter-based randomness: any number of the stream can be computed alone, by its place.

Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), vectorised over NumPy integers.
Knows nothing of what the numbers are used for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_ROUNDS = 10


def philox(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: ArrayLike) -> tuple[NDArray[np.uint64], ...]:
    """Four 32-bit words (held in uint64) for each place of `counter`, four 32-bit words, under the 64-bit `key`; all broadcast together."""
    key64 = np.asarray(key, dtype=np.uint64)
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) & _LOW for word in counter)
    steps = np.arange(_ROUNDS, dtype=np.uint64).reshape(-1, *(1,) * key64.ndim)
    keys0, keys1 = ((key64 & _LOW) + steps * _WEYL[0]) & _LOW, ((key64 >> _SHIFT) + steps * _WEYL[1]) & _LOW
    for k0, k1 in zip(keys0, keys1, strict=True):
        left, right = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (right >> _SHIFT) ^ c1 ^ k0, right & _LOW, (left >> _SHIFT) ^ c3 ^ k1, left & _LOW
    return tuple(np.broadcast_arrays(c0, c1, c2, c3))


def uniform(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: ArrayLike) -> NDArray[np.float64]:
    """A number in [0, 1) with 53 random bits for each place of `counter`."""
    high, low, _, _ = philox(counter, key)
    return ((high >> np.uint64(5)) * 67108864.0 + (low >> np.uint64(6))) / 9007199254740992.0
