"""Measuring a drafter along a text that its target wrote: how far its trees come true, and how long they take here.

Each size walks along the text as it would if each tree were waited for, so that trees start where they would start.
Knows a drafter and a text; knows nothing of who wrote it, nor of models.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from cactus_core.coupled import CoupledTree
from cactus_core.sampling import SamplingParams
from cluster.planning.acceptance_curve import DEEPEST
from edge.drafting.drafter import Drafter

SIZES = (4, 8, 16, 32, 48)
_KEPT = 5e-4  # a share below is noise, and left out of a curve


@dataclass(frozen=True, slots=True)
class WrittenText:
    """`tokens` of which the first `num_prompt` were given, and the rest drawn under the noise of `seed`."""

    tokens: tuple[int, ...]
    num_prompt: int
    params: SamplingParams
    seed: int


@dataclass(slots=True)
class DraftedAlong:
    """Of each size: how many tokens of each tree came true, and the seconds each took. Filled by `add`."""

    depths: dict[int, list[int]] = field(default_factory=dict)
    seconds: dict[int, list[float]] = field(default_factory=dict)

    def add(self, drafter: Drafter, text: WrittenText, sizes: Sequence[int] = SIZES) -> None:
        """Drafts along `text` with each of `sizes`. Trees that the text's end might cut are not counted; mutates."""
        for size in sizes:
            depths, seconds = self.depths.setdefault(size, []), self.seconds.setdefault(size, [])
            base, is_first = text.num_prompt, True
            while base < len(text.tokens):
                started = time.perf_counter()
                tree = drafter.draft_tree(
                    text.tokens[:base],
                    num_nodes=size,
                    max_depth=DEEPEST,
                    params=text.params,
                    seed=text.seed,
                    num_prompt=text.num_prompt,
                )
                took = time.perf_counter() - started
                depth = depth_in(tree, text.tokens[base:])
                base += depth + 1
                if base > len(text.tokens):
                    break
                depths.append(depth)
                if not is_first:  # the first reads the prompt
                    seconds.append(took)
                is_first = False

    @property
    def survival(self) -> dict[int, list[float]]:
        """As `AcceptanceCurve` takes it."""
        found = {}
        for size, depths in sorted(self.depths.items()):
            if depths:
                reached = [float(np.mean(np.array(depths) >= depth)) for depth in range(1, 1 + min(size, DEEPEST))]
                found[size] = [round(share, 4) for share in reached if share > _KEPT] or [0.0]
        return found

    @property
    def draft_s(self) -> dict[int, float]:
        """As `DeviceProfile` takes it: medians, never falling."""
        found, most = {}, 0.0
        for size, seconds in sorted(self.seconds.items()):
            if seconds:
                most = max(most, median(seconds))
                found[size] = round(most, 6)
        return found


def depth_in(tree: CoupledTree, text: Sequence[int]) -> int:
    """How many of the next tokens of `text` are drafted in `tree`, one below the other."""
    node = -1
    for depth, token in enumerate(text):
        below = np.flatnonzero((tree.parents == node) & (tree.tokens == token))
        if not below.size:
            return depth
        node = int(below[0])
    return len(text)
