"""How far drafted trees come true: for each size that was tried, the share of trees of which so many tokens did.

Empirical, not a geometric law: trees that got far are those in easy text, and get further. Knows shares; knows nothing of texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from cactus_core.coins import Floats
from cactus_core.errors import InvalidInput

DEEPEST = 32


@dataclass(frozen=True, slots=True)
class AcceptanceCurve:
    """`survival[n][d - 1]` is the share of trees of n nodes of which d tokens or more came true; 0 beyond what is given.

    `tree_bytes` is what a frame with a tree takes besides, and a node in it; `decision_bytes` a decision. Raises `InvalidInput`.
    """

    name: str
    survival: dict[int, list[float]]
    frame_bytes: float = 60.0
    node_bytes: float = 2.5
    decision_bytes: float = 80.0
    description: str = ""
    _sizes: tuple[int, ...] = field(init=False, repr=False)
    _curves: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.survival:
            raise InvalidInput("survival is empty; give it at least one size of trees and its curve")
        curves = np.zeros((len(self.survival), DEEPEST))
        for row, (size, curve) in zip(curves, sorted(self.survival.items()), strict=True):
            is_falling = all(0.0 <= more <= less <= 1.0 for less, more in pairwise([1.0, *curve]))
            if size < 1 or not curve or len(curve) > min(size, DEEPEST) or not is_falling:
                most = f"at most {min(max(size, 1), DEEPEST)}"
                raise InvalidInput(f"survival of {size} nodes must be shares that fall from 1 or less to 0 or more, {most} of them")
            row[: len(curve)] = curve
        object.__setattr__(self, "_sizes", tuple(sorted(self.survival)))
        object.__setattr__(self, "_curves", curves)

    @property
    def sizes(self) -> tuple[int, ...]:
        return self._sizes

    def at(self, num_nodes: int) -> Floats:
        """`[D]`: the curve of trees of so many nodes, on the line between the sizes that were tried; the largest's beyond."""
        if num_nodes < 1:
            return np.zeros(DEEPEST)
        sizes, curves = (0, *self._sizes), np.concatenate([np.zeros((1, DEEPEST)), self._curves])
        return np.array([np.interp(num_nodes, sizes, curves[:, depth]) for depth in range(DEEPEST)])

    def hazards(self, num_nodes: int) -> Floats:
        """`[D]`: the share of trees of which d - 1 tokens came true that had the d-th right as well."""
        curve = self.at(num_nodes)
        before = np.concatenate([[1.0], curve[:-1]])
        return np.divide(curve, before, out=np.zeros_like(curve), where=before > 0)

    def tokens_per_tree(self, num_nodes: int) -> float:
        """With the target's own token at the end."""
        return 1.0 + float(self.at(num_nodes).sum())
