"""Growing the drafted tree that the target is likeliest to walk, best nodes first.

Knows candidates with the drafter's probabilities, and the shared noise; knows nothing of the model that gives the one or
of the generator that gives the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Floats, Ints
from cactus_core.coupled import CoupledTree

# G for tokens at positions, broadcast together: `partial(gumbel, seed)`.
Noise = Callable[[Ints, Ints], Floats]
_GROUP = 16  # columns of which the largest stands for all: there is one of the best in most groups that have any


def shares(weights: NDArray[np.floating], most: int) -> tuple[Ints, Floats]:
    """The best `[M, W]` of the columns of `weights` `[M, S]`, the best first, and the logarithms of their shares in softmax(weights).

    W is `most`, or S where that is less. No row may be -inf throughout; a column of -inf has no share.
    """
    weights = weights - weights.max(-1, keepdims=True)
    total = np.log(np.exp(weights).sum(-1, keepdims=True, dtype=np.float64))
    num_rows, num_columns = weights.shape
    at = np.flatnonzero(weights >= _least(weights, most))
    rows, of_those = at // num_columns, weights.ravel()[at]
    order = np.lexsort((-of_those, rows))
    first = np.searchsorted(rows, np.arange(num_rows))
    best = order[first[:, None] + np.arange(min(most, num_columns))]
    return (at % num_columns)[best], of_those[best] - total


def _least(weights: NDArray[np.floating], most: int) -> NDArray[np.floating]:
    """`[M, 1]`: what the best `most` columns of each row reach, and few others. To look for those alone takes several times as long."""
    num_rows, num_columns = weights.shape
    num_groups = num_columns // _GROUP
    if num_groups < most:
        return np.asarray(weights.min(-1, keepdims=True))
    heads = weights[:, : num_groups * _GROUP].reshape(num_rows, _GROUP, num_groups).max(1)
    return np.asarray(np.partition(heads, -most, axis=-1)[:, -most, None])


class TreeGrower:
    """The `num_nodes` best nodes of the tree of all texts after the first `base` tokens, at most `max_depth` deep.

    A node's score is the product along its path of softmax(s (log p + G)), p being the drafter's law, G the noise at that
    position and s the `sharpness`: how likely the target takes the token where its log q lies off log p by Gumbel noise 1/s
    as large as G. The caller runs its model on `frontier()` and hands the laws to `expand()`, until the frontier is empty;
    or to `add()`, where it makes the weights s (log p + G) by itself or knows what they were. Then `noise` and `sharpness` are not used.
    Node -1 is the end of the text and the first frontier; the others keep their numbers while the tree grows.

    At temperature 0 there is no noise (`None`: G = 0) and the score is a product of powers of p. The target then takes its likeliest
    token, and the best guesses are ranked by how likely the drafter finds each: expand with its law at temperature 1, or
    any other that is no point mass, which would leave a chain.
    """

    def __init__(self, base: int, *, num_nodes: int, max_depth: int, noise: Noise | None = None, sharpness: float = 1.0) -> None:
        self._sharpness = sharpness
        self._base, self._num_nodes, self._max_depth, self._noise = base, num_nodes, max_depth, noise
        # Place 0 is the end of the text, place 1 + n is node n.
        self._tokens, self._parents = np.full((2, 1), -1)
        self._depths = np.zeros(1, dtype=np.int64)
        self._scores = np.zeros(1)  # logarithms
        self._is_expanded = np.zeros(1, dtype=np.bool_)
        # The end of the text and the best nodes, the best first. A child that scores as its parent does comes after it, as it came to be.
        self._ranked: Ints = np.zeros(1, dtype=np.int64)

    @property
    def tokens(self) -> Ints:
        """`[C]`: the token of each candidate node so far."""
        return self._tokens[1:]

    @property
    def parents(self) -> Ints:
        """`[C]`: the node that each candidate follows, expanded and always of a lower number; -1 is the end of the text."""
        return self._parents[1:]

    def frontier(self, max_batch: int | None = None) -> Ints:
        """The best nodes to run next, `max_batch` of them at most and each of its parents run; empty when the tree is grown.

        The tree does not depend on `max_batch`. What a batch costs is runs: in batches of one every node that is run
        must be, while in a batch the children of one node may show that another was not needed.
        """
        # Nothing scores above its parent, so whatever follows the last of the best is none of them.
        best = self._ranked[: self._num_nodes]
        return best[~self._is_expanded[best] & (self._depths[best] < self._max_depth)][:max_batch] - 1

    def expand(self, nodes: Ints, ids: Ints, probs: Floats) -> None:
        """Adds what may follow `nodes` `[M]`, each of the frontier and never twice: tokens `ids` `[M, S]` with the drafter's `probs`
        `[M, S]`, of positive sum and distinct ids in each row. What has probability 0 is padding and never drafted.
        """
        with np.errstate(divide="ignore"):
            weights = np.log(np.asarray(probs, dtype=np.float64))
        if self._noise is not None:
            weights += self._noise(self._base + self._depths[np.asarray(nodes)[:, None] + 1], ids)
        best, logs = shares(weights * self._sharpness, self._num_nodes)
        self.add(nodes, np.take_along_axis(ids, best, -1), logs)

    def add(self, nodes: Ints, ids: Ints, logs: Floats) -> None:
        """As `expand`, with the logarithms `logs` `[M, W]` of the shares of the likeliest tokens, `num_nodes` of them or all."""
        place = np.asarray(nodes) + 1
        self._is_expanded[place] = True
        scores = (self._scores[place, None] + logs).ravel()
        is_full = len(self._ranked) > self._num_nodes
        likely = np.flatnonzero(scores > (self._scores[self._ranked[-1]] if is_full else -np.inf))
        num_old, num_ranked = len(self._scores), len(self._ranked)
        best = np.argsort(-np.concatenate([self._scores[self._ranked], scores[likely]]), kind="stable")[: 1 + self._num_nodes]
        is_new = best >= num_ranked
        new = likely[best[is_new] - num_ranked]
        parents = place[new // logs.shape[1]]
        places = np.empty_like(best)
        places[~is_new] = self._ranked[best[~is_new]]
        places[is_new] = num_old + np.arange(len(new))
        self._ranked = places
        self._tokens = np.concatenate([self._tokens, ids.ravel()[new]])
        self._parents = np.concatenate([self._parents, parents - 1])
        self._depths = np.concatenate([self._depths, self._depths[parents] + 1])
        self._scores = np.concatenate([self._scores, scores[new]])
        self._is_expanded = np.concatenate([self._is_expanded, np.zeros(len(new), dtype=np.bool_)])

    def reached(self, nodes: Ints) -> float:
        """How many of `nodes` the target is expected to come by."""
        return float(np.exp(self._scores[nodes + 1]).sum())

    def best(self) -> Ints:
        """The nodes of the tree in its order: the best first, so that its first nodes are always the best smaller tree."""
        return self._ranked[1:] - 1

    def finish(self) -> CoupledTree:
        """The tree. Before the frontier is empty it is the best of the candidates so far."""
        nodes = self.best()
        number = np.full(len(self._tokens), -1)
        number[1 + nodes] = np.arange(len(nodes))
        return CoupledTree(self._base, self.tokens[nodes], number[1 + self.parents[nodes]])
