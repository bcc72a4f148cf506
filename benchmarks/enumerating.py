"""Coins that explore every branch of a decision with its exact probability.

A program is replayed with a recorded prefix of choices; at each choice past the prefix it takes one option and the others
are stacked as prefixes of their own, with their probability. Many prefixes are replayed at once as the sessions of one
batch, so the product's batched code is enumerated as it is.

A choice is recorded also where it has but one option: whether another has a probability of 0 or of 1e-16 can hang on the
last bit of a sum, and that bit on the batch. For the same reason a prefix keeps the probability it was found with.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Bools, Floats, Ints, Site

Choices = NDArray[np.int8]
Prefixes = tuple[Choices, Ints, Floats]  # choices, how many are recorded, probability

MAX_CHOICES = 128
BATCH = 8192


class EnumeratingCoins:
    """Follows each session's prefix; `untaken` are the prefixes of what it meets beyond and leaves for later."""

    def __init__(self, choices: Choices, num_recorded: Ints, probability: Floats) -> None:
        self._choices = np.full((len(choices), MAX_CHOICES), -1, dtype=np.int8)
        self._choices[:, : choices.shape[1]] = choices
        self._num_recorded = num_recorded
        self._num_made = np.zeros(len(choices), dtype=np.int64)
        self.probability = probability.copy()
        self.untaken: list[Prefixes] = []
        self._sessions = np.arange(len(choices))

    def of(self, sessions: Ints) -> EnumeratingCoins:
        view = object.__new__(EnumeratingCoins)
        view.__dict__ = {**self.__dict__, "_sessions": self._sessions[sessions]}  # the same arrays, fewer rows
        return view

    def flip(self, probability: Floats, site: Site, depth: int) -> Bools:
        probability = np.broadcast_to(probability, (len(self._sessions), probability.shape[1]))
        lanes = [self._choose(np.stack([1 - p, p], -1)) for p in probability.T]
        return np.stack(lanes, -1).astype(bool) if lanes else np.zeros(probability.shape, dtype=bool)

    def draw(self, weights: Floats, site: Site, depth: int) -> Ints:
        return self._choose(weights / weights.sum(-1, keepdims=True))

    def _choose(self, options: Floats) -> Ints:
        rows, made = self._sessions, self._num_made[self._sessions]
        is_recorded = made < self._num_recorded[rows]
        chosen = np.where(is_recorded, self._choices[rows, made], (options > 0).argmax(-1))
        for option in range(options.shape[-1]):
            other = ~is_recorded & (options[:, option] > 0) & (chosen != option)
            if other.any():
                prefixes = self._choices[rows[other]]
                prefixes[np.arange(len(prefixes)), made[other]] = option
                self.untaken.append((prefixes, made[other] + 1, self.probability[rows[other]] * options[other, option]))
        self._choices[rows, made] = chosen
        self._num_made[rows] += 1
        self.probability[rows] *= np.where(is_recorded, 1.0, options[np.arange(len(rows)), chosen])
        return chosen


def every_branch(program: Callable[[EnumeratingCoins, int], Ints]) -> tuple[Ints, Floats]:
    """All outcomes of `program(coins, num_sessions) -> [num_sessions, ...]`, with the probability of each branch."""
    stack: list[Prefixes] = [(np.zeros((1, 0), dtype=np.int8), np.zeros(1, dtype=np.int64), np.ones(1))]
    outcomes, probabilities = [], []
    while stack:
        prefixes = stack.pop()
        if len(prefixes[0]) > BATCH:
            stack.append((prefixes[0][BATCH:], prefixes[1][BATCH:], prefixes[2][BATCH:]))
            prefixes = (prefixes[0][:BATCH], prefixes[1][:BATCH], prefixes[2][:BATCH])
        coins = EnumeratingCoins(*prefixes)
        outcomes.append(program(coins, len(coins.probability)))
        probabilities.append(coins.probability)
        if coins.untaken:
            choices, num_recorded, probability = zip(*coins.untaken, strict=True)
            stack.append((np.concatenate(choices), np.concatenate(num_recorded), np.concatenate(probability)))
    return np.concatenate(outcomes), np.concatenate(probabilities)
