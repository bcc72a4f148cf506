"""Coupled verification: drafter and verifier share their noise, so the target's own tokens say what stands.

Under Gumbel noise G the target's token is argmax(log q + G), an exact sample of q. A drafted tree guesses it, and the
verifier walks the tree while its own token is drafted. What is emitted are own tokens only, so the text is a function
of noise and target alone, whatever was drafted. Temperature 0 needs no case of its own: q is a point mass, and its
token is the argmax under any noise, G = 0 included.
Knows nothing of models, of streams, or of where the noise comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cactus_core.coins import Floats, Ints
from cactus_core.errors import InvalidInput

_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class CoupledTree:
    """N guesses of what follows the first `base` tokens of the text: a tree, without any probabilities.

    `tokens` `[N]`; `parents` `[N]` are places in it, each before its children's, -1 where a node follows the text. No two
    children of one node are equal. N = 0 is plain decoding. Raises `InvalidInput` where that does not hold.
    """

    base: int
    tokens: Ints
    parents: Ints

    def __post_init__(self) -> None:
        if self.base < 0:
            raise InvalidInput(f"a tree's base must be at least 0, not {self.base}")
        if self.tokens.ndim != 1 or self.tokens.shape != self.parents.shape:
            raise InvalidInput(f"a tree needs one parent for each token: {self.tokens.shape} tokens, {self.parents.shape} parents")
        if not self.tokens.size:
            return
        if (self.tokens < 0).any():
            raise InvalidInput("a tree's tokens must be at least 0")
        if (self.parents < -1).any() or (self.parents >= np.arange(len(self.parents))).any():
            raise InvalidInput("a tree's parents must come before their children, or be -1 to follow the text")
        order = np.lexsort((self.tokens, self.parents))
        if ((np.diff(self.tokens[order]) == 0) & (np.diff(self.parents[order]) == 0)).any():
            raise InvalidInput("a tree's siblings must differ: one of its tokens is drafted twice at the same place")

    @property
    def depths(self) -> Ints:
        """`[N]`: the drafted tokens up to and with each node. A node's position in the text is `base + depth - 1`."""
        depths, above = np.ones_like(self.tokens), self.parents
        while (above >= 0).any():
            depths += above >= 0
            above = np.where(above >= 0, self.parents[above], -1)
        return depths


def empty_tree(base: int) -> CoupledTree:
    """No guesses: the verifier decodes one token."""
    return CoupledTree(base, _NOTHING, _NOTHING)


def rerooted(tree: CoupledTree, emitted: Ints) -> CoupledTree:
    """What of `tree` still follows the text once `emitted` `[n]` tokens have come after its base, its order kept.

    Empty where they are not drafted: a guess that did not come true costs nothing.
    """
    base, node = tree.base + len(emitted), -1
    if not len(tree.tokens):
        return empty_tree(base)
    for token in emitted:
        found = np.flatnonzero((tree.parents == node) & (tree.tokens == token))
        if not found.size:
            return empty_tree(base)
        node = int(found[0])
    if node < 0:
        return tree
    below = tree.parents == node
    while (more := (tree.parents >= 0) & below[tree.parents] & ~below).any():
        below |= more
    number, parents = np.cumsum(below) - 1, tree.parents[below]
    return CoupledTree(base, tree.tokens[below], np.where(parents == node, -1, number[parents]))


def own_tokens(target_probs: Floats, noise: Floats) -> Ints:
    """`[M]`: argmax(log q + G) of each row of `target_probs` `[M, V]`, >= 0 with a positive sum, under finite `noise` `[M, V]`.

    Never a token of probability 0. A tie, which needs two numbers of 53 bits to meet, goes to the lowest id.
    """
    with np.errstate(divide="ignore"):
        return np.asarray((np.log(target_probs) + noise).argmax(-1), dtype=np.int64)


def drafted_child(tokens: Ints, parents: Ints, num_nodes: Ints, node: Ints, own: Ints) -> Ints:
    """`[B]`: of B trees as in `walk`, the child of `node` `[B]` that is the own token `own` `[B]`; -1 where none is."""
    number = 1 + np.arange(tokens.shape[1])
    stands = (number <= num_nodes[:, None]) & (parents == node[:, None]) & (tokens == own[:, None])
    return np.asarray(stands @ number - 1)  # siblings differ, so at most one stands


@dataclass(frozen=True, slots=True, eq=False)
class Walks:
    """How far the target's own tokens lead through each of B trees.

    `path` `[B, D]` are the nodes that stand, in their order, -1 after the last; D is the most that stand in one tree.
    `num_accepted` `[B]` are their numbers, `node` `[B]` the last of each, -1 where none stands, and `final` `[B]` the own
    token there: the corrected token, or the bonus token where the walk ended at a leaf.
    """

    path: Ints
    num_accepted: Ints
    node: Ints
    final: Ints


def walk(tokens: Ints, parents: Ints, num_nodes: Ints, own: Ints) -> Walks:
    """Follow the own tokens through B trees `tokens`, `parents` `[B, N]`, of which the first `num_nodes` `[B]` nodes are real.

    `own` `[B, 1 + N]` are the target's own tokens: after the text, then after each node; anything where there is none.
    """
    num_sessions, width = tokens.shape
    sessions = np.arange(num_sessions)
    node = np.full(num_sessions, -1)
    path: list[Ints] = []
    for _ in range(width):  # a path has no more nodes
        child = drafted_child(tokens, parents, num_nodes, node, own[sessions, 1 + node])
        if (child < 0).all():
            break
        path.append(child)
        node = np.where(child >= 0, child, node)
    path_BD = np.stack(path, -1) if path else np.zeros((num_sessions, 0), dtype=np.int64)
    return Walks(path_BD, (path_BD >= 0).sum(-1), node, own[sessions, 1 + node])
