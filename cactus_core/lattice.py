"""Sparse laws in integer counts: what a drafter samples from and what travels.

A lattice law is not an approximation of the draft's law, it *is* the draft's law: tokens are drawn from it, so nothing
is lost by sending it compactly. Knows nothing of models or of the wire.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Floats, Ints
from cactus_core.errors import InvalidInput

MAX_BITS = 16


@dataclass(frozen=True, slots=True, eq=False)
class LatticeLaws:
    """N laws, each on at most S tokens.

    `ids` `[N, S]` are token ids, ascending in each row; `counts` `[N, S]` are integers >= 1 that add up to 2**bits in
    each row. A shorter law is padded at its end with id 0 and count 0. Raises `InvalidInput` where that does not hold.
    """

    ids: Ints
    counts: Ints
    bits: int

    def __post_init__(self) -> None:
        if not (0 < self.bits <= MAX_BITS):
            raise InvalidInput(f"a law's bits must be between 1 and {MAX_BITS}, not {self.bits}")
        if self.ids.ndim != 2 or self.ids.shape != self.counts.shape:
            raise InvalidInput(f"a law needs one count for each id: {self.ids.shape} ids, {self.counts.shape} counts")
        used = self.counts > 0
        if (self.counts < 0).any() or (used[:, 1:] > used[:, :-1]).any():
            raise InvalidInput("a law's counts must be 1 or more, with padding only at the end")
        if (self.counts.sum(-1) != 1 << self.bits).any():
            raise InvalidInput(f"a law's counts must add up to {1 << self.bits}")
        if (self.ids < 0).any() or ((self.ids[:, 1:] <= self.ids[:, :-1]) & used[:, 1:]).any():
            raise InvalidInput("a law's ids must be ascending and at least 0")

    @property
    def probs(self) -> Floats:
        """`[N, S]`, 0 on padding."""
        return self.counts / float(1 << self.bits)

    @property
    def sizes(self) -> Ints:
        """Support sizes `[N]`."""
        return np.asarray((self.counts > 0).sum(-1))

    def combinatorial_bits(self, vocab_size: int) -> Floats:
        """`[N]`: log2 of how many laws on supports of each one's size there are, C(V, S) C(2**bits - 1, S - 1).

        No code can be shorter on average where all of them are equally likely. Raises `InvalidInput` where a law has more
        than `vocab_size` tokens.
        """
        sizes, total = self.sizes, 1 << self.bits
        if (sizes > vocab_size).any():
            raise InvalidInput(f"a law on {sizes.max()} tokens needs a vocabulary larger than {vocab_size}")
        log_factorials = np.cumsum(np.log2(np.maximum(np.arange(max(vocab_size, total) + 1), 1)))

        def log_choose(n: int, k: Ints) -> Floats:
            return np.asarray(log_factorials[n] - log_factorials[k] - log_factorials[n - k])

        return log_choose(vocab_size, sizes) + log_choose(total - 1, sizes - 1)


def quantise(probs: NDArray[np.floating], support_size: int, bits: int) -> LatticeLaws:
    """The laws on the lattice of 2**bits nearest to `probs` `[N, V]`, on at most `support_size` tokens each.

    The likeliest tokens are kept and renormalised; counts are rounded by largest remainder, so that they add up; tokens
    that round to nothing leave the support.
    """
    num_laws, vocab_size = probs.shape
    size = min(support_size, vocab_size)
    ids = (
        np.argpartition(probs, vocab_size - size, axis=-1)[:, vocab_size - size :]
        if size < vocab_size
        else np.tile(np.arange(vocab_size), (num_laws, 1))
    )
    kept = np.take_along_axis(probs, ids, -1).astype(np.float64)
    exact = kept / kept.sum(-1, keepdims=True) * (1 << bits)
    counts = np.floor(exact).astype(np.int64)
    missing = (1 << bits) - counts.sum(-1, keepdims=True)
    rank = np.argsort(np.argsort(-(exact - counts), axis=-1, kind="stable"), axis=-1, kind="stable")
    counts += rank < missing
    order = np.argsort(np.where(counts > 0, ids, vocab_size), axis=-1, kind="stable")
    counts = np.take_along_axis(counts, order, -1)
    ids = np.where(counts > 0, np.take_along_axis(ids, order, -1), 0)
    width = int((counts > 0).sum(-1).max())
    return LatticeLaws(ids[:, :width].astype(np.int64), counts[:, :width], bits)
