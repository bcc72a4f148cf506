"""Measuring a drafter along a text that its target wrote: how far its trees come true, and how long they take here.

A tree's first n nodes are the best smaller tree, so that one from each place of the text tells of all sizes. Their times are taken along
the text as it would go on if each tree were waited for.
Knows a drafter and a text; knows nothing of who wrote it, nor of models.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, pstdev

from cactus_core.coupled import CoupledTree
from cactus_core.sampling import SamplingParams
from cluster.planning.acceptance_curve import DEEPEST
from edge.drafting.drafter import Drafter
from edge.tuning.foretold import Foretold

SIZES = (4, 8, 16, 32, 48)
_CUT = 16  # places before a text's end from which a tree may have led further


@dataclass(frozen=True, slots=True)
class WrittenText:
    """`tokens` of which the first `num_prompt` were given, and the rest drawn under the noise of `seed`."""

    tokens: tuple[int, ...]
    num_prompt: int
    params: SamplingParams
    seed: int


@dataclass(slots=True)
class DraftedAlong:
    """Of each size: how many tokens of a tree came true from each place of each text on, and the seconds that trees took. `add` mutates."""

    reach: dict[int, list[list[int]]] = field(default_factory=dict)
    seconds: dict[int, list[float]] = field(default_factory=dict)

    def add(self, drafter: Drafter, text: WrittenText, sizes: Sequence[int] = SIZES) -> None:
        """Drafts along `text`. One of no more than 16 tokens tells nothing of reaches."""
        places = range(text.num_prompt, len(text.tokens) - _CUT)
        if places:
            came_true = [true_path(drafter, text, base, max(sizes)) for base in places]
            for size in sizes:
                self.reach.setdefault(size, []).append([sum(place < size for place in nodes) for nodes in came_true])
        for size in sizes:
            seconds = self.seconds.setdefault(size, [])
            base, is_first = text.num_prompt, True
            while base < len(text.tokens):
                started = time.perf_counter()
                tree = _tree(drafter, text, base, size)
                if not is_first:  # the first reads the prompt
                    seconds.append(time.perf_counter() - started)
                is_first = False
                base += len(_came_true(tree, text.tokens[base:])) + 1

    @property
    def draft_s(self) -> dict[int, float]:
        """As `DeviceProfile` takes it: means, never falling."""
        found, most = {}, 0.0
        for size, seconds in sorted(self.seconds.items()):
            if seconds:
                most = max(most, fmean(seconds))
                found[size] = round(most, 6)
        return found

    @property
    def draft_spread(self) -> float:
        """As `DeviceProfile` takes it: the median of the sizes'."""
        spreads = [pstdev(seconds) / fmean(seconds) for seconds in self.seconds.values() if seconds]
        return round(median(spreads), 3) if spreads else 0.0


def true_path(drafter: Drafter, text: WrittenText, base: int, num_nodes: int) -> list[int]:
    """Of a tree drafted at `base` of the text: the places of its nodes that came true, one below the other."""
    return _came_true(_tree(drafter, text, base, num_nodes), text.tokens[base:])


def _tree(drafter: Drafter, text: WrittenText, base: int, num_nodes: int) -> CoupledTree:
    return drafter.draft_tree(
        text.tokens[:base], num_nodes=num_nodes, max_depth=DEEPEST, params=text.params, seed=text.seed, num_prompt=text.num_prompt
    )


def _came_true(tree: CoupledTree, tokens: Sequence[int]) -> list[int]:
    """Places in `tree` of its nodes that came true, one below the other."""
    foretold = Foretold(tree)
    foretold.follow(tokens)
    return foretold.places
