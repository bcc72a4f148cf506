"""One drafted block: what an edge proposes in a round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cactus_core.coins import Bools, Ints
from cactus_core.errors import InvalidInput
from cactus_core.lattice import LatticeLaws


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """K paths of L tokens, drawn independently from the drafter's laws, to follow the first `base` tokens of the text.

    `tokens` `[K, L]`; `law_of` `[K, L]` says which of `laws` each token was drawn from. Paths that share a prefix share the
    law at its end. K = L = 0 is the empty block: plain decoding. Raises `InvalidInput` where a token is not in the
    support of its law, or where paths that agree so far name different laws.
    """

    base: int
    tokens: Ints
    law_of: Ints
    laws: LatticeLaws

    @property
    def num_rows(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def length(self) -> int:
        return int(self.tokens.shape[1])

    def __post_init__(self) -> None:
        if self.base < 0:
            raise InvalidInput(f"a block's base must be at least 0, not {self.base}")
        if self.tokens.ndim != 2 or self.tokens.shape != self.law_of.shape:
            raise InvalidInput(f"a block needs one law for each token: {self.tokens.shape} tokens, {self.law_of.shape} laws")
        if self.tokens.size == 0:
            return
        if self.law_of.min() < 0 or self.law_of.max() >= len(self.laws.ids):
            raise InvalidInput(f"a block of {len(self.laws.ids)} laws names law {self.law_of.max()}")
        if not self._in_support().any(-1).all():
            raise InvalidInput("a drafted token is not in the support of the law it is said to be drawn from")
        if (self.shares_prefix(before=True) & (self.law_of[:, None] != self.law_of[None, :])).any():
            raise InvalidInput("paths that share a prefix must share the law that follows it")

    @property
    def choices(self) -> Ints:
        """`[K, L]`: each token as an index into the support of its law."""
        return np.asarray(self._in_support().argmax(-1), dtype=np.int64)

    def _in_support(self) -> Bools:
        """`[K, L, S]`: whether each token of a law's support is the one that was drawn from it."""
        return np.asarray((self.laws.ids[self.law_of] == self.tokens[..., None]) & (self.laws.counts[self.law_of] > 0))

    def shares_prefix(self, *, before: bool) -> np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]:
        """`[K, K, L]`: whether two rows agree on all tokens up to each depth, or (`before`) on all that come before it."""
        same = np.logical_and.accumulate(self.tokens[:, None] == self.tokens[None, :], axis=-1)
        if before:
            same = np.concatenate([np.ones_like(same[..., :1]), same[..., :-1]], -1)
        return same


_NOTHING = np.zeros((0, 0), dtype=np.int64)
_NO_LAWS = LatticeLaws(_NOTHING, _NOTHING, 1)


def empty_block(base: int) -> Block:
    """No drafts: the verifier decodes one token."""
    return Block(base, _NOTHING, _NOTHING, _NO_LAWS)
