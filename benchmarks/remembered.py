"""A drafter on a machine of its own, as far as one machine can show it: its blocks are made once, and take their time again.

The second time a text comes its block is waited for, as long as drafting it took, and not computed: the wait is an *emulated*
one. What is remembered is what the drafter drafted for just that text, so that the verifier's work is the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from cactus_core.block import Block
from cactus_core.coins import Ints
from cactus_core.coupled import CoupledTree
from cactus_core.sampling import SamplingParams
from edge.drafting.drafter import Drafter


class RememberedDrafter:
    """`drafter`, whose blocks and the seconds they took are kept by their texts. Of one seed and shape."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._known: dict[tuple[int, ...], tuple[Block, float]] = {}

    @property
    def vocab_size(self) -> int:
        return self._drafter.vocab_size

    @property
    def support_size(self) -> int:
        return self._drafter.support_size

    @property
    def max_positions(self) -> int:
        return self._drafter.max_positions

    def draft(
        self, text: Sequence[int] | Ints, *, num_rows: int, length: int, params: SamplingParams, seed: int, num_prompt: int = 0
    ) -> Block:
        """As `Drafter.draft`; sleeps where it has drafted for this text before."""
        key = tuple(int(token) for token in text)
        if key in self._known:
            block, seconds = self._known[key]
            time.sleep(seconds)
            return block
        started = time.perf_counter()
        block = self._drafter.draft(text, num_rows=num_rows, length=length, params=params, seed=seed, num_prompt=num_prompt)
        self._known[key] = block, time.perf_counter() - started
        return block

    def draft_tree(self, text: Sequence[int] | Ints, **asked: Any) -> CoupledTree:
        """As `Drafter.draft_tree`; trees are not remembered."""
        return self._drafter.draft_tree(text, **asked)
