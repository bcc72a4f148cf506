"""Growing the drafted tree that the target is likeliest to walk, best nodes first.

Knows candidates with the drafter's probabilities, and the shared noise; knows nothing of the model that gives the one or
of the generator that gives the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cactus_core.coins import Floats, Ints
from cactus_core.coupled import CoupledTree

# G for tokens at positions, broadcast together: `partial(gumbel, seed)`.
Noise = Callable[[Ints, Ints], Floats]


class TreeGrower:
    """The `num_nodes` best nodes of the tree of all texts after the first `base` tokens, at most `max_depth` deep.

    A node's score is the product along its path of softmax(s (log p + G)), p being the drafter's law, G the noise at that
    position and s the `sharpness`: how likely the target takes the token where its log q lies off log p by Gumbel noise 1/s
    as large as G. The caller runs its model on `frontier()` and hands the laws to `expand()`, until the frontier is empty.
    Node -1 is the end of the text and the first frontier; the others keep their numbers while the tree grows.

    At temperature 0 there is no noise (`None`: G = 0) and the score is a product of powers of p. The target then takes its likeliest
    token, and the best guesses are ranked by how likely the drafter finds each: expand with its law at temperature 1, or
    any other that is no point mass, which would leave a chain.
    """

    def __init__(self, base: int, *, num_nodes: int, max_depth: int, noise: Noise | None, sharpness: float = 1.0) -> None:
        self._sharpness = sharpness
        self._base, self._num_nodes, self._max_depth, self._noise = base, num_nodes, max_depth, noise
        # Place 0 is the end of the text, place 1 + n is node n.
        self._tokens, self._parents = np.full((2, 1), -1)
        self._depths = np.zeros(1, dtype=np.int64)
        self._scores = np.zeros(1)  # logarithms
        self._is_expanded = np.zeros(1, dtype=np.bool_)

    @property
    def tokens(self) -> Ints:
        """`[C]`: the token of each candidate node so far."""
        return self._tokens[1:]

    @property
    def parents(self) -> Ints:
        """`[C]`: the node that each candidate follows, expanded and always of a lower number; -1 is the end of the text."""
        return self._parents[1:]

    def frontier(self, max_batch: int) -> Ints:
        """The best nodes to run next, `max_batch` of them at most and each of its parents run; empty when the tree is grown.

        The tree does not depend on `max_batch`. What a batch costs is runs: in batches of one every node that is run
        must be, while in a batch the children of one node may show that another was not needed.
        """
        # Nothing scores above its parent, so whatever follows the last of the best is none of them.
        best = self._ranked()[: self._num_nodes]
        return best[~self._is_expanded[best] & (self._depths[best] < self._max_depth)][:max_batch] - 1

    def expand(self, nodes: Ints, ids: Ints, probs: Floats) -> None:
        """Adds what may follow `nodes` `[M]`, each of the frontier and never twice: tokens `ids` `[M, S]` with the drafter's `probs`
        `[M, S]`, of positive sum and distinct ids in each row. What has probability 0 is padding and never drafted.
        """
        place = np.asarray(nodes) + 1
        with np.errstate(divide="ignore"):
            weights = np.log(np.asarray(probs, dtype=np.float64))  # logarithms
        if self._noise is not None:
            weights += self._noise(self._base + self._depths[place, None], ids)
        weights *= self._sharpness
        weights -= weights.max(-1, keepdims=True)
        weights -= np.log(np.exp(weights).sum(-1, keepdims=True))
        scores = (self._scores[place, None] + weights).ravel()
        # Of one call's candidates no more than these can be in the tree. Few are sorted, of what may be many.
        least = np.partition(scores, -self._num_nodes)[-self._num_nodes] if len(scores) > self._num_nodes else -np.inf
        likeliest = np.flatnonzero((scores >= least) & (scores > -np.inf))
        kept = likeliest[np.argsort(-scores[likeliest], kind="stable")[: self._num_nodes]]
        parents = place[kept // ids.shape[1]]
        self._is_expanded[place] = True
        self._tokens = np.append(self._tokens, ids.ravel()[kept])
        self._parents = np.append(self._parents, parents - 1)
        self._depths = np.append(self._depths, self._depths[parents] + 1)
        self._scores = np.append(self._scores, scores[kept])
        self._is_expanded = np.append(self._is_expanded, np.zeros(len(kept), dtype=np.bool_))

    def best(self) -> Ints:
        """The nodes of the tree in its order: the best first, so that its first nodes are always the best smaller tree."""
        return self._ranked()[1 : 1 + self._num_nodes] - 1

    def finish(self) -> CoupledTree:
        """The tree. Before the frontier is empty it is the best of the candidates so far."""
        nodes = self.best()
        number = np.full(len(self._tokens), -1)
        number[1 + nodes] = np.arange(len(nodes))
        return CoupledTree(self._base, self.tokens[nodes], number[1 + self.parents[nodes]])

    def _ranked(self) -> Ints:
        """All places, the best first. A child that scores as its parent does comes after it, as it came to be."""
        return np.argsort(-self._scores, kind="stable")
