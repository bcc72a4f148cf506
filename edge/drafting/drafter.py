"""What the round loop asks of whatever proposes tokens.

Knows text as token ids, blocks and trees; knows nothing of models, streams or who verifies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from cactus_core.block import Block
from cactus_core.coins import Ints
from cactus_core.coupled import CoupledTree
from cactus_core.sampling import SamplingParams


class Drafter(Protocol):
    """Proposes what may follow a text. One caller at a time: implementations keep caches and take no lock.

    A caller may pass any text at any time; what was drafted before changes how fast the answer comes, and never which law it
    rests on beyond the rounding of floating point. The same call twice in a row gives the same answer, bit for bit. Neither
    a text nor an earlier answer is changed.

    Both methods take all ids committed so far, the prompt's `num_prompt` first, and raise `LimitExceeded` when these and the
    deepest drafted token do not fit in `max_positions` together, `InvalidInput` for an empty text, an id outside the
    vocabulary or a negative size.
    """

    @property
    def vocab_size(self) -> int:
        """V: every token id, of text or draft, is below it."""

    @property
    def support_size(self) -> int:
        """S: the most tokens that a law of a block has."""

    @property
    def max_positions(self) -> int:
        """The longest text, drafted tokens included, that this drafter can hold."""

    def draft(
        self, text: Sequence[int] | Ints, *, num_rows: int, length: int, params: SamplingParams, seed: int, num_prompt: int = 0
    ) -> Block:
        """K = `num_rows` paths of L = `length` tokens to follow `text`, with the laws that they were drawn from.

        A drafter that has no guess gives the empty block.

        The block's base is `len(text)`. The tokens of each row are drawn independently from the laws that the block
        carries, with the coins of `seed`, the base and the row; rows that share a prefix share the law after it. At
        temperature 0 all rows would be equal, so one is drafted: K is then 1. K = 0 or L = 0 gives the empty block.

        Laws are shaped by `params` as the target's are, penalties counting the text and the path so far: the nearer the
        two, the more stands. What stands is right whatever they are.
        """

    def draft_tree(
        self,
        text: Sequence[int] | Ints,
        *,
        num_nodes: int,
        max_depth: int,
        params: SamplingParams,
        seed: int,
        num_prompt: int = 0,
        s_per_token: float = math.inf,
    ) -> CoupledTree:
        """At most `num_nodes` guesses of what follows `text` under the noise of `seed`, at most `max_depth` tokens deep.

        The tree's base is `len(text)`. The nodes that the target is likeliest to walk come first, so that the first nodes of
        a tree are always a good smaller one; there may be fewer than asked for. No node or no depth gives the empty tree. Where the
        target waits for the tree, and a text takes `s_per_token`, a good one that comes sooner is better than the best: how good depends
        on the time that drafting takes, and is not the same twice.

        A guess is what the target would take if its law were the drafter's, shaped by `params` as for a block. At
        temperature 0, where there is no noise, nodes are ranked by the law at temperature 1 without top-k, top-p or min-p.
        """


@runtime_checkable
class ThinksAhead(Protocol):
    """What a drafter may do beside, for whom its model takes long enough that it matters."""

    def think_ahead(self, num_nodes: int, should_stop: Callable[[], bool]) -> None:
        """Prepares for the texts that are likeliest to be asked for after the last tree: does what takes no run, then runs up to
        `num_nodes` further nodes of what may follow it. `should_stop` is asked before each piece of work, which is one run of the model
        at most. Nothing where the last call was for no tree.
        """
