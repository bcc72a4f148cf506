"""The shared noise on the verifier's device: the torch twin of cactus_core/noise.py and cactus_core/gumbel.py.

The same integers bit for bit, the same logarithms but for their last bits. Knows nothing of laws or drafts.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cactus_core import gumbel as core
from cactus_core.gumbel import PLACE, SMALLEST

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
_ROUNDS = 10
# Numbers that NumPy makes at a time: with more at once its temporaries leave the cache, and take twice as long.
_PIECE = 4096
# The largest vocabulary that noise is made for ahead of time: of a larger one a row takes longer than whoever comes meanwhile should wait.
LARGEST_AHEAD = 4096
_MOST_AHEAD = 512  # rows that are kept until they are asked for, 16 MiB
_ahead: dict[tuple[int, int, int], NDArray[np.float64]] = {}  # the oldest first


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words for each place of `counter`, four 32-bit words, under the 64-bit `key`; all int64, broadcast together.

    A key of 2**63 or more is the int64 of the same bits.
    """
    c0, c1, c2, c3 = (word & _LOW for word in counter)
    k0, k1 = key & _LOW, (key >> 32) & _LOW
    for _ in range(_ROUNDS):
        (left_high, left_low), (right_high, right_low) = _multiply(_MULTIPLIERS[0], c0), _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = right_high ^ c1 ^ k0, right_low, left_high ^ c3 ^ k1, left_low
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def uniform(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: Tensor) -> Tensor:
    """A float64 in [0, 1) with 53 random bits for each place of `counter`."""
    high, low, _, _ = philox(counter, key)
    return ((high >> 5).double() * 67108864.0).add_(low >> 6).div_(9007199254740992.0)


def gumbel(seeds: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """As `cactus_core.gumbel.gumbel`, in float64 on the arguments' device: all int64, broadcast together.

    Takes some five times the memory that it returns: a whole vocabulary for many rows is better made some rows at a time.
    """
    # Numbers without a dimension go with tensors of any device.
    numbers = uniform((positions, tokens, torch.tensor(0), torch.tensor(PLACE)), seeds)
    return numbers.clamp_(min=SMALLEST).log_().neg_().log_().neg_()


def whole_gumbel(seeds: Tensor, positions: Tensor, vocab_size: int) -> Tensor:
    """As `gumbel`, of all tokens `[n, V]` at `positions` `[n]` of `seeds` `[n]`."""
    return gumbel(seeds[:, None], positions[:, None], torch.arange(vocab_size, device=seeds.device))


def host_gumbel(seed: int, position: int, vocab_size: int) -> NDArray[np.float64]:
    """As `whole_gumbel`, of one row `[V]`, which is the caller's, and of a seed below 2**64; on a processor.

    NumPy makes it: its products have 64 bits, and torch's steps are too many to be worth it there.
    """
    made = _ahead.pop((seed, position, vocab_size), None)
    return _made(seed, position, vocab_size) if made is None else made


def make_ahead(seed: int, position: int, vocab_size: int) -> None:
    """Makes what `host_gumbel` will be asked for, once, and then need not make; V is at most `LARGEST_AHEAD`."""
    key = seed, position, vocab_size
    if key not in _ahead:
        if len(_ahead) == _MOST_AHEAD:
            del _ahead[next(iter(_ahead))]
        _ahead[key] = _made(seed, position, vocab_size)


def _made(seed: int, position: int, vocab_size: int) -> NDArray[np.float64]:
    row = np.empty(vocab_size)
    for start in range(0, vocab_size, _PIECE):
        piece = row[start : start + _PIECE]
        piece[:] = core.gumbel(seed, position, np.arange(start, start + len(piece)))
    return row


def _multiply(multiplier: int, words: Tensor) -> tuple[Tensor, Tensor]:
    """The high and the low 32 bits of the products. By halves of the multiplier: the products have 64 bits, int64 63 for them."""
    upper, lower = words * (multiplier >> 16), words * (multiplier & 0xFFFF)
    low = (upper & 0xFFFF).bitwise_left_shift_(16).add_(lower).bitwise_and_(_LOW)
    return upper.add_(lower.bitwise_right_shift_(16)).bitwise_right_shift_(16), low
