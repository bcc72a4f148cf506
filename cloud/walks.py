"""Coupled trees of all sessions, walked with the target's own tokens.

Knows laws and trees; knows nothing of pages, of the rejection family, or of how an own token is found. The walk itself is
cactus_core/coupled.py's, here depth by depth: an own token costs noise for a whole vocabulary, and of a tree's 1 + N places
a walk comes past few.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cactus_core.coins import Ints
from cactus_core.coupled import drafted_child
from cloud.ballot import Ballot
from cloud.laws import TargetLaws


def walk_all(laws: TargetLaws, ballots: Sequence[Ballot], first_row: ArrayLike) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Of each ballot's tree, the nodes that stand, in order, and their tokens with the one after them: the target's own all.

    All `drafts` are coupled trees; of `laws`, those from `first_row` `[B]` on are a ballot's. What one ballot gets does not depend on
    the others. Goes to the device and back once for each depth that any walk comes to, and once more.
    """
    num_sessions = len(ballots)
    rows = np.asarray(first_row, dtype=np.int64)
    bases = np.array([ballot.drafts.base for ballot in ballots], dtype=np.int64)
    seeds = np.array([ballot.request.seed for ballot in ballots], dtype=np.uint64)
    tokens, parents, num_nodes = _padded(ballots)
    num_stood = np.zeros(num_sessions, dtype=np.int64)
    stood: list[Ints] = []  # of each depth, `[B]`
    emitted: list[Ints] = []
    walking, node = np.arange(num_sessions), np.full(num_sessions, -1)
    while walking.size:
        depth = len(emitted)
        own = laws.own_tokens(rows[walking] + 1 + node, seeds[walking], bases[walking] + depth).cpu().numpy()
        child = drafted_child(tokens[walking], parents[walking], num_nodes[walking], node, own)
        emitted.append(_spread(own, walking, num_sessions))
        stood.append(_spread(child, walking, num_sessions))
        walking, node = walking[child >= 0], child[child >= 0]
        num_stood[walking] += 1
    return [
        (tuple(nodes[:count]), tuple(text[: count + 1]))
        for nodes, text, count in zip(_by_session(stood), _by_session(emitted), num_stood, strict=True)
    ]


def _spread(values: Ints, walking: Ints, num_sessions: int) -> Ints:
    """`[B]`: the walking sessions' values in their places."""
    spread = np.full(num_sessions, -1)
    spread[walking] = values
    return spread


def _by_session(of_depths: Sequence[Ints]) -> list[list[int]]:
    return np.stack(of_depths, -1).tolist() if of_depths else []


def _padded(ballots: Sequence[Ballot]) -> tuple[Ints, Ints, Ints]:
    """The trees' tokens and parents `[B, N]`, the widest tree's N, and their numbers of nodes `[B]`."""
    num_nodes = np.array([len(ballot.tree.tokens) for ballot in ballots], dtype=np.int64)
    tokens, parents = np.full((2, len(ballots), num_nodes.max(initial=0)), -1)
    is_real = np.arange(tokens.shape[1]) < num_nodes[:, None]
    if ballots:
        tokens[is_real] = np.concatenate([ballot.tree.tokens for ballot in ballots])
        parents[is_real] = np.concatenate([ballot.tree.parents for ballot in ballots])
    return tokens, parents, num_nodes
