"""Coins that explore every branch of a decision with its exact probability.

A program is replayed with a recorded prefix of choices; at the first choice past the prefix it takes one option and the
others are stacked as prefixes of their own. Many prefixes are replayed at once as the sessions of one batch, so the
product's batched code is enumerated as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cactus_core.coins import Bools, Floats, Ints, Site

MAX_CHOICES = 64
BATCH = 8192


class EnumeratingCoins:
    def __init__(self, choices: Ints, num_recorded: Ints) -> None:
        self._choices = np.full((len(choices), MAX_CHOICES), -1, dtype=np.int8)
        self._choices[:, : choices.shape[1]] = choices
        self._num_recorded = num_recorded
        self._num_made = np.zeros(len(choices), dtype=np.int64)
        self.probability = np.ones(len(choices))
        self.untaken: list[tuple[Ints, Ints]] = []
        self._sessions = np.arange(len(choices))

    def of(self, sessions: Ints) -> EnumeratingCoins:
        view = object.__new__(EnumeratingCoins)
        view.__dict__ = {**self.__dict__, "_sessions": self._sessions[sessions]}  # the same arrays, fewer rows
        return view

    def flip(self, probability: Floats, site: Site, depth: int) -> Bools:
        probability = np.broadcast_to(probability, (len(self._sessions), probability.shape[1]))
        lanes = [self._choose(np.stack([1 - p, p], -1)) for p in probability.T]
        return np.stack(lanes, -1).astype(bool)

    def draw(self, weights: Floats, site: Site, depth: int) -> Ints:
        return self._choose(weights / weights.sum(-1, keepdims=True))

    def _choose(self, options: Floats) -> Ints:
        rows, made = self._sessions, self._num_made[self._sessions]
        chosen = (options > 0).argmax(-1)
        branches = (options > 0).sum(-1) > 1
        recorded = branches & (made < self._num_recorded[rows])
        chosen[recorded] = self._choices[rows[recorded], made[recorded]]
        fresh = branches & ~recorded
        for option in range(options.shape[-1]):
            other = fresh & (options[:, option] > 0) & (chosen != option)
            if other.any():
                prefixes = self._choices[rows[other]]
                prefixes[np.arange(len(prefixes)), made[other]] = option
                self.untaken.append((prefixes, made[other] + 1))
        self._choices[rows[branches], made[branches]] = chosen[branches]
        self._num_made[rows[branches]] += 1
        self.probability[rows] *= options[np.arange(len(rows)), chosen]
        return chosen


def every_branch(program: Callable[[EnumeratingCoins, int], Ints]) -> tuple[Ints, Floats]:
    """All outcomes of `program(coins, num_sessions) -> [num_sessions, ...]`, with the probability of each branch."""
    stack = [(np.zeros((1, 0), dtype=np.int8), np.zeros(1, dtype=np.int64))]
    outcomes, probabilities = [], []
    while stack:
        choices, num_recorded = stack.pop()
        if len(choices) > BATCH:
            stack.append((choices[BATCH:], num_recorded[BATCH:]))
            choices, num_recorded = choices[:BATCH], num_recorded[:BATCH]
        coins = EnumeratingCoins(choices, num_recorded)
        outcomes.append(program(coins, len(choices)))
        probabilities.append(coins.probability)
        if coins.untaken:
            stack.append((np.concatenate([c for c, _ in coins.untaken]), np.concatenate([n for _, n in coins.untaken])))
    return np.concatenate(outcomes), np.concatenate(probabilities)
