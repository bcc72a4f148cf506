"""How far drafted trees come true: empirical, not a geometric law, since trees that got far are those in easy text, and get further.

Knows counts and shares; knows nothing of texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from cactus_core.coins import Floats, Ints
from cactus_core.errors import InvalidInput

DEEPEST = 32


@dataclass(frozen=True, slots=True)
class AcceptanceCurve:
    """Of trees of each size, either of two: `reach[n]`, of some texts, how many tokens of a tree of n nodes came true from each
    place on; or `survival[n]`, the share of trees of n nodes of which 1, 2, ... tokens or more came true.

    Reaches know that what is hard to guess is hard for every tree that holds it; of shares alone, trees are taken to be independent.
    A frame takes `frame_bytes`, and `node_bytes` for each node; a decision `decision_bytes`. Raises `InvalidInput`.
    """

    name: str
    reach: dict[int, list[list[int]]] = field(default_factory=dict, repr=False)
    survival: dict[int, list[float]] = field(default_factory=dict)
    frame_bytes: float = 60.0
    node_bytes: float = 1.5
    decision_bytes: float = 80.0
    description: str = ""
    _curves: Mapping[int, Floats] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if bool(self.reach) == bool(self.survival):
            raise InvalidInput("an acceptance curve has either reach or survival, of at least one size of trees")
        for size, texts in self.reach.items():
            is_whole = all(text and all(0 <= depth <= min(size, DEEPEST) for depth in text) for text in texts)
            if size < 1 or not texts or not is_whole:
                raise InvalidInput(f"reach of {size} nodes must be texts of numbers from 0 to {min(max(size, 1), DEEPEST)}")
        for size, curve in self.survival.items():
            is_falling = all(0.0 <= more <= less <= 1.0 for less, more in pairwise([1.0, *curve]))
            if size < 1 or not curve or len(curve) > min(size, DEEPEST) or not is_falling:
                most = f"at most {min(max(size, 1), DEEPEST)}"
                raise InvalidInput(f"survival of {size} nodes must be shares that fall from 1 or less to 0 or more, {most} of them")
        curves = {size: _padded(curve) for size, curve in self.survival.items()}
        curves |= {size: _survival(texts) for size, texts in self.reach.items()}
        object.__setattr__(self, "_curves", dict(sorted(curves.items())))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of trees of which something is known."""
        return tuple(self._curves)

    def at(self, num_nodes: int) -> Floats:
        """`[D]`: the share of trees of one of `sizes` of which 1, 2, ... tokens or more came true, each tree being waited for."""
        return self._curves[num_nodes]

    def tokens_per_tree(self, num_nodes: int) -> float:
        """With the target's own token at the end."""
        return 1.0 + float(self.at(num_nodes).sum())

    def reaches(self, num_nodes: int, rng: np.random.Generator) -> Ints:
        """How many tokens of a tree of one of `sizes` come true, from each place on of the next stretch of a text."""
        if self.reach:
            texts = self.reach[num_nodes]
            return np.array(texts[int(rng.integers(len(texts)))], dtype=np.int64)
        luck = rng.random(_STRETCH)
        return np.asarray((luck[:, None] < self._curves[num_nodes]).sum(-1))


_STRETCH = 256


def _padded(curve: Iterable[float]) -> Floats:
    shares = np.array(list(curve))
    return np.concatenate([shares, np.zeros(DEEPEST - len(shares))])


def _survival(texts: Iterable[list[int]]) -> Floats:
    """Of the trees that are drafted where each is waited for."""
    met: list[int] = []
    for text in texts:
        place = 0
        while place < len(text):
            met.append(text[place])
            place += text[place] + 1
    return np.asarray((np.array(met)[:, None] > np.arange(DEEPEST)).mean(0))
