"""What the round loop asks of whatever proposes tokens.

Knows text as token ids, and blocks; knows nothing of models, streams or who verifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cactus_core.block import Block
from cactus_core.coins import Ints
from cactus_core.sampling import SamplingParams


class Drafter(Protocol):
    """Proposes paths to follow a text. One caller at a time: implementations keep caches and take no lock."""

    @property
    def vocab_size(self) -> int:
        """V: every token id, of text or block, is below it."""

    @property
    def support_size(self) -> int:
        """S: the most tokens that a law of a block has."""

    @property
    def max_positions(self) -> int:
        """The longest text, drafted tokens included, that this drafter can hold."""

    def draft(
        self, text: Sequence[int] | Ints, *, num_rows: int, length: int, params: SamplingParams, seed: int, num_prompt: int = 0
    ) -> Block:
        """K = `num_rows` paths of L = `length` tokens to follow `text`, all ids committed so far, the prompt's `num_prompt` first.

        The block's base is `len(text)`. The tokens of each row are drawn independently from the laws that the block
        carries, with the coins of `seed`, the base and the row; rows that share a prefix share the law after it. At
        temperature 0 all rows would be equal, so one is drafted: K is then 1. K = 0 or L = 0 gives the empty block.

        Laws are shaped by `params` as the target's are, penalties counting the text and the path so far: the nearer the
        two, the more stands. What stands is right whatever they are.

        A caller may pass any text at any time; what was drafted before changes how fast the answer comes, and never
        which law it is beyond the rounding of floating point. The same call twice in a row gives the same block, bit
        for bit.

        Raises `LimitExceeded` when `text` and `length` do not fit in `max_positions` together, and `InvalidInput` for
        an empty text or an id outside the vocabulary. Neither `text` nor an earlier block is changed.
        """
