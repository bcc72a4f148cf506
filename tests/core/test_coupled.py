"""A coupled tree is a tree, own tokens are possible ones, and a walk goes as far as they lead."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.coupled import CoupledTree, own_tokens, rerooted, walk
from cactus_core.errors import InvalidInput


def tree(tokens, parents, base=3):
    return CoupledTree(base, np.array(tokens, dtype=np.int64), np.array(parents, dtype=np.int64))


#       0:7      1:4
#      /   \
#    2:7   3:9
#    /
#  4:1
TOKENS, PARENTS = [7, 4, 7, 9, 1], [-1, -1, 0, 0, 2]


def test_a_node_is_as_deep_as_its_path_is_long():
    assert tree(TOKENS, PARENTS).depths.tolist() == [1, 1, 2, 2, 3]
    assert tree([], []).depths.tolist() == []


@pytest.mark.parametrize(
    ("tokens", "parents", "base", "reason"),
    [
        ([1], [-1], -1, "base"),
        ([1, 2], [-1], 0, "one parent for each"),
        ([[1]], [[-1]], 0, "one parent for each"),
        ([-1], [-1], 0, "tokens must be at least 0"),
        ([1], [-2], 0, "before their children"),
        ([1], [0], 0, "before their children"),
        ([1, 2], [1, -1], 0, "before their children"),
        ([1, 2, 1], [-1, 0, -1], 0, "drafted twice"),
        ([1, 2, 2], [-1, 0, 0], 0, "drafted twice"),
    ],
)
def test_what_is_no_tree_is_refused(tokens, parents, base, reason):
    with pytest.raises(InvalidInput, match=reason):
        tree(tokens, parents, base)


def test_a_token_may_come_again_elsewhere():
    tree([1, 1, 1, 2], [-1, 0, 1, 1])


def test_an_own_token_is_never_impossible():
    probs = np.array([[0.0, 1.0, 0.0], [1e-300, 0.0, 0.0], [0.5, 0.0, 0.5]])
    noise = np.array([[36.7, -3.6, 36.7], [-3.6, 36.7, 36.7], [0.0, 36.7, 1.0]])
    assert own_tokens(probs, noise).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("own", "path", "final"),
    [
        ([5, 0, 0, 0, 0, 0], [], 5),
        ([4, 0, 8, 0, 0, 0], [1], 8),
        ([7, 8, 0, 0, 0, 0], [0], 8),
        ([7, 9, 0, 0, 6, 0], [0, 3], 6),
        ([7, 7, 0, 1, 0, 2], [0, 2, 4], 2),
    ],
)
def test_a_walk_follows_the_own_tokens(own, path, final):
    walks = walk(np.array([TOKENS]), np.array([PARENTS]), np.array([5]), np.array([own]))
    assert walks.path.tolist() == [path]
    assert walks.num_accepted.tolist() == [len(path)]
    assert walks.node.tolist() == [path[-1] if path else -1]
    assert walks.final.tolist() == [final]


def test_a_session_without_drafts_emits_its_own_token():
    walks = walk(np.zeros((2, 0), np.int64), np.zeros((2, 0), np.int64), np.zeros(2, np.int64), np.array([[5], [6]]))
    assert (walks.final.tolist(), walks.num_accepted.tolist(), walks.node.tolist()) == ([5, 6], [0, 0], [-1, -1])
    assert walks.path.shape == (2, 0)


def test_padding_is_never_walked():
    walks = walk(np.array([[7, 0, 0]]), np.array([[-1, -1, 0]]), np.array([1]), np.array([[7, 0, 0, 0]]))
    assert walks.path.tolist() == [[0]]
    walks = walk(np.array([[7, 0, 0]]), np.array([[-1, -1, 0]]), np.array([1]), np.array([[0, 0, 0, 0]]))
    assert walks.num_accepted.tolist() == [0]


def slow_walk(tokens, parents, num_nodes, own):
    path, node = [], -1
    while True:
        child = next((n for n in range(num_nodes) if parents[n] == node and tokens[n] == own[1 + node]), None)
        if child is None:
            return path, own[1 + node]
        path.append(child)
        node = child


@given(st.integers(1, 6), st.integers(0, 14), st.integers(0, 1 << 32))
def test_sessions_are_walked_together_as_they_would_be_alone(num_sessions, width, seed):
    rng = np.random.default_rng(seed)
    tokens, own = rng.integers(3, size=(num_sessions, width)), rng.integers(3, size=(num_sessions, 1 + width))
    parents = rng.integers(-1, np.broadcast_to(np.arange(width), (num_sessions, width)))
    # One token a sibling: the later of two equal ones is made unreachable by a token of its own.
    for b in range(num_sessions):
        for n in range(width):
            if (parents[b, n], tokens[b, n]) in zip(parents[b, :n], tokens[b, :n], strict=True):
                tokens[b, n] = 100 + n
    num_nodes = rng.integers(width + 1, size=num_sessions)
    walks = walk(tokens, parents, num_nodes, own)
    for b in range(num_sessions):
        path, final = slow_walk(tokens[b], parents[b], num_nodes[b], own[b])
        assert walks.path[b, : len(path)].tolist() == path
        assert (walks.path[b, len(path) :] == -1).all()
        assert (walks.num_accepted[b], walks.final[b], walks.node[b]) == (len(path), final, path[-1] if path else -1)


@pytest.mark.parametrize(
    ("emitted", "tokens", "parents"),
    [
        ([], TOKENS, PARENTS),
        ([7], [7, 9, 1], [-1, -1, 0]),
        ([7, 7], [1], [-1]),
        ([7, 7, 1], [], []),
        ([7, 7, 1, 5], [], []),
        ([4], [], []),
        ([9], [], []),
    ],
)
def test_of_a_tree_what_follows_the_text_since_is_kept(emitted, tokens, parents):
    left = rerooted(tree(TOKENS, PARENTS), np.array(emitted, dtype=np.int64))
    assert (left.base, left.tokens.tolist(), left.parents.tolist()) == (3 + len(emitted), tokens, parents)


def paths_of(of):
    """The drafted continuations, each as its tokens."""
    paths = []
    for token, parent in zip(of.tokens.tolist(), of.parents.tolist(), strict=True):
        paths.append((*(paths[parent] if parent >= 0 else ()), token))
    return paths


@given(st.lists(st.tuples(st.integers(-1, 30), st.integers(0, 2)), max_size=30), st.lists(st.integers(0, 2), max_size=4))
def test_no_guess_is_lost_or_made_up_by_the_text_going_on(nodes, emitted):
    known = {}
    for parent, token in nodes:
        path = (*(list(known)[parent % len(known)] if parent >= 0 and known else ()), token)
        known.setdefault(path, len(known))
    of = tree([path[-1] for path in known], [known.get(path[:-1], -1) for path in known])
    assert paths_of(of) == list(known)
    left = rerooted(of, np.array(emitted, dtype=np.int64))
    n = len(emitted)
    assert paths_of(left) == [path[n:] for path in known if path[:n] == tuple(emitted) and len(path) > n]
