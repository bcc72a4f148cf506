"""Everything random in a decision goes through coins.

In production coins are `SeededCoins`: a decision repeated after a fault is the same decision. In the law tests coins
enumerate every branch with its probability, so that a rule is proved exact rather than sampled.
Knows nothing of rules, models or streams.
"""

from __future__ import annotations

from copy import copy
from enum import IntEnum
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cactus_core.noise import uniform

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Site(IntEnum):
    """What a coin is thrown for. No two throws of one decision share (site, depth)."""

    DRAFT = 0  # a drafter's next token
    CHOOSE = 1  # which path is followed
    ACCEPT = 2  # whether a length stands
    CORRECT = 3  # the corrected or bonus token: on the support, or off it
    OFF_SUPPORT = 4  # which token off the support
    GUMBEL = 5  # no coin: the noise that drafter and verifier share, which cactus_core/gumbel.py makes


# Of these a decision, or a block, throws one at every depth; so many depths at once.
_EVERY_DEPTH = (Site.DRAFT, Site.CHOOSE)
_THROWN_TOGETHER = 8


class Coins(Protocol):
    """One source of chance for each of B sessions; row b of every argument belongs to session b."""

    def flip(self, probability: Floats, site: Site, depth: int) -> Bools:
        """True with `probability` `[B, N]`, independently for each entry."""

    def draw(self, weights: Floats, site: Site, depth: int) -> Ints:
        """For each row of `weights` `[B, S]`, >= 0 with a positive sum, an index with probability in proportion. Returns `[B]`."""

    def of(self, sessions: Ints) -> Self:
        """The coins of some of the sessions, in the order of `sessions`."""


class SeededCoins:
    """Coins that are a function of (seed, base, row, site, depth) alone, whatever else is decided in the same batch.

    `seeds` `[B]` are the requests' 64-bit seeds, `bases` `[B]` the number of committed tokens when the block was drafted.
    A round always commits a token, so no two rounds of a request share a base, and no coin is thrown twice. A drafter
    that draws K rows of one request tells them apart by `rows` `[B]`.
    """

    def __init__(self, seeds: ArrayLike, bases: ArrayLike, rows: ArrayLike = 0) -> None:
        self._seeds = np.asarray(seeds, dtype=np.uint64)[:, None]
        self._bases = np.asarray(bases, dtype=np.uint64)[:, None]
        self._rows = np.broadcast_to(np.asarray(rows, dtype=np.uint64), self._seeds.shape[0])[:, None]
        self._sessions = np.arange(len(self._seeds))
        self._thrown: dict[tuple[Site, int], Floats] = {}
        self._lanes: Floats = np.zeros((len(self._seeds), 0))  # of the coins for lengths

    def throw_ahead(self, num_lengths: int) -> None:
        """Throws what a decision throws once, all in one: the coins for `num_lengths` lengths, and those for the token after them.

        It changes nothing but when: whoever waits for laws has the time.
        """
        places = [*[_place(Site.ACCEPT, 0)] * num_lengths, _place(Site.CORRECT, 0), _place(Site.OFF_SUPPORT, 0)]
        lanes = np.array([*range(num_lengths), 0, 0], dtype=np.uint64)
        thrown = uniform((self._bases, lanes[None, :], self._rows, np.array(places)[None, :]), self._seeds)
        self._lanes = thrown[:, :num_lengths]
        self._thrown[Site.CORRECT, 0], self._thrown[Site.OFF_SUPPORT, 0] = thrown[:, -2:-1], thrown[:, -1:]

    def uniform(self, site: Site, depth: int) -> Floats:
        """The number in [0, 1), `[B]`, that `draw` inverts: for whoever holds the weights elsewhere."""
        # A throw takes a hundred calls of NumPy's, for one depth or for several, for some of the sessions or for all.
        num_depths = _THROWN_TOGETHER if site in _EVERY_DEPTH else 1
        start = depth - depth % num_depths
        if (site, start) not in self._thrown:
            depths = np.arange(start, start + num_depths, dtype=np.uint64)
            self._thrown[site, start] = uniform((self._bases, 0, self._rows, _place(site, depths)[None, :]), self._seeds)
        return np.asarray(self._thrown[site, start][self._sessions, depth - start])

    def flip(self, probability: Floats, site: Site, depth: int) -> Bools:
        num_lanes, on = probability.shape[1], self._sessions
        if (site, depth) == (Site.ACCEPT, 0) and num_lanes <= self._lanes.shape[1]:
            return np.asarray(self._lanes[on, :num_lanes] < probability)
        lanes = np.arange(num_lanes, dtype=np.uint64)[None, :]
        return np.asarray(uniform((self._bases[on], lanes, self._rows[on], _place(site, depth)), self._seeds[on]) < probability)

    def draw(self, weights: Floats, site: Site, depth: int) -> Ints:
        return draw_at(weights, self.uniform(site, depth)[:, None])

    def of(self, sessions: Ints) -> SeededCoins:
        some = copy(self)  # what one of them throws, all of them need not throw again
        some._sessions = self._sessions[sessions]  # noqa: SLF001  # a copy of its own
        return some


def _place(site: Site, depth: ArrayLike) -> NDArray[np.uint64]:
    return np.uint64(site << 16) | np.asarray(depth, dtype=np.uint64)


def draw_at(weights: Floats, at: Floats) -> Ints:
    """Inverse of the cumulative law: the first index whose running sum exceeds `at` times the total. Never an index of weight 0."""
    running = np.cumsum(weights, axis=-1)
    total = running[..., -1:]
    index = (running <= at * total).sum(axis=-1)
    # at * total can round up to total itself: then the last index of positive weight is meant.
    last = weights.shape[-1] - 1 - np.argmax((weights > 0)[..., ::-1], axis=-1)
    return np.asarray(np.minimum(index, last), dtype=np.int64)
