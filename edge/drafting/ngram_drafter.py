"""A drafter without a model: what followed the text's last tokens before, in the text itself, may follow again.

Knows the text's own n-grams; knows nothing of models, nor of who verifies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from cactus_core.block import Block, empty_block
from cactus_core.coins import Floats, Ints
from cactus_core.coupled import CoupledTree, empty_tree
from cactus_core.growing import TreeGrower
from cactus_core.gumbel import gumbel
from cactus_core.lattice import LatticeLaws
from cactus_core.sampling import SamplingParams
from edge.drafting.block_drawing import draw_block
from edge.drafting.checked_text import checked_text
from edge.drafting.draft_laws import on_lattice
from edge.drafting.ngram_counts import NgramCounts

_BITS = 14
_SUPPORT = 64
_BATCH = 8


class NgramDrafter:
    """Prompt lookup, as `Drafter` says. Where the last token is new to the text, blocks and trees are empty.

    Of a request's sampling only its temperature is looked at, and only whether it is 0: what the text holds was sampled as
    the request asks. A call costs the tokens that came since the last one, or all of them where the text is another.
    """

    def __init__(self, vocab_size: int, max_positions: int) -> None:
        self._vocab_size, self._max_positions = vocab_size, max_positions
        self._counts = NgramCounts()

    @property
    def vocab_size(self) -> int:
        """See `Drafter.vocab_size`."""
        return self._vocab_size

    @property
    def support_size(self) -> int:
        """See `Drafter.support_size`."""
        return min(_SUPPORT, self._vocab_size)

    @property
    def max_positions(self) -> int:
        """See `Drafter.max_positions`."""
        return self._max_positions

    def draft(
        self, text: Sequence[int] | Ints, *, num_rows: int, length: int, params: SamplingParams, seed: int, num_prompt: int = 0
    ) -> Block:
        """See `Drafter.draft`."""
        base = self._catch_up(text, num_rows, length)
        if num_rows == 0 or length == 0 or self._has_no_guess():
            return empty_block(base)
        is_greedy = params.temperature == 0.0

        def laws_after(paths: Ints, leaders: Ints) -> LatticeLaws:
            return on_lattice(*self._laws(paths[leaders], 1 if is_greedy else self.support_size), _BITS)

        return draw_block(base, num_rows=1 if is_greedy else num_rows, length=length, seed=seed, laws_after=laws_after)

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
        """See `Drafter.draft_tree`. All of a tree is made at once, whatever a token takes."""
        base = self._catch_up(text, num_nodes, max_depth)
        if num_nodes == 0 or max_depth == 0 or self._has_no_guess():
            return empty_tree(base)
        noise = None if params.temperature == 0.0 else partial(gumbel, seed)
        grower = TreeGrower(base, num_nodes=num_nodes, max_depth=max_depth, noise=noise)
        paths: dict[int, list[int]] = {-1: []}
        while (nodes := grower.frontier(_BATCH)).size:
            for node in nodes[nodes >= 0].tolist():
                paths[node] = [*paths[int(grower.parents[node])], int(grower.tokens[node])]
            grower.expand(nodes, *self._laws([paths[node] for node in nodes.tolist()], self.support_size))
        return grower.finish()

    def _catch_up(self, text: Sequence[int] | Ints, width: int, depth: int) -> int:
        """Reads what is new of `text`, and says how long it is."""
        committed = checked_text(text, width, depth, vocab_size=self._vocab_size, max_positions=self._max_positions)
        self._counts.read(committed)
        return len(committed)

    def _has_no_guess(self) -> bool:
        # Any other token that a guess can lead to was followed by something: it is not the text's last.
        return not self._counts.counts_after([], 1)

    def _laws(self, paths: Sequence[Sequence[int]] | Ints, support_size: int) -> tuple[Ints, Floats]:
        """Tokens and shares `[R, S]` of what may follow each of R paths after the text, the likeliest first; 0 is padding."""
        laws = [sorted(self._counts.law_after(path).items(), key=lambda of: -of[1]) for path in paths]
        width = min(support_size, max(len(law) for law in laws))
        ids, probs = np.zeros((len(laws), width), dtype=np.int64), np.zeros((len(laws), width))
        for row, law in enumerate(laws):
            for column, (token, share) in enumerate(law[:width]):
                ids[row, column], probs[row, column] = token, share
        return ids, probs
