"""Best first finds the best tree, runs no more than it must, and breaks no tie against a parent."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cactus_core.growing import TreeGrower, shares
from cactus_core.lattice import quantise

BASE = 7


class SmallDraft:
    """A law `[V]` for each path, zeros now and then, and noise for each position and token."""

    def __init__(self, seed, vocab_size, depth):
        self.seed, self.vocab_size, self.depth = seed, vocab_size, depth
        rng = np.random.default_rng(seed)
        self.table = rng.gumbel(size=(BASE + depth, vocab_size))
        self.laws = {}
        for length in range(depth):
            for path in itertools.product(range(vocab_size), repeat=length):
                law = rng.dirichlet(np.full(vocab_size, 0.7)) * (rng.random(vocab_size) < 0.8)
                self.laws[path] = law / law.sum() if law.sum() else np.eye(vocab_size)[0]

    def noise(self, positions, ids):
        return self.table[positions, ids]

    def scores(self, *, noisy):
        """By brute force: the score of every path of the complete tree."""
        scores = {(): 1.0}
        for path, law in self.laws.items():
            weights = law * np.exp(self.table[BASE + len(path)]) if noisy else law
            for token, weight in enumerate(weights / weights.sum()):
                scores[*path, token] = scores[path] * weight
        del scores[()]
        return scores


def path_of(node, tokens, parents):
    return () if node < 0 else (*path_of(parents[node], tokens, parents), int(tokens[node]))


def grow(draft, num_nodes, max_batch, *, noisy=True, depth=None):
    grower = TreeGrower(BASE, num_nodes=num_nodes, max_depth=depth or draft.depth, noise=draft.noise if noisy else None)
    run = []
    while len(nodes := grower.frontier(max_batch)):
        assert len(nodes) <= max_batch
        paths = [path_of(node, grower.tokens, grower.parents) for node in nodes]
        run += nodes.tolist()
        grower.expand(nodes, np.tile(np.arange(draft.vocab_size), (len(nodes), 1)), np.stack([draft.laws[path] for path in paths]))
    return grower, run


@given(st.integers(0, 1 << 32), st.sampled_from([(2, 4), (3, 3), (5, 2)]), st.integers(0, 45), st.integers(1, 6), st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_tree_is_the_best_nodes_of_all_however_they_are_batched(seed, shape, num_nodes, max_batch, noisy):
    draft = SmallDraft(seed, *shape)
    grower, run = grow(draft, num_nodes, max_batch, noisy=noisy)
    tree = grower.finish()
    paths = [path_of(node, tree.tokens, tree.parents) for node in range(len(tree.tokens))]
    scores = draft.scores(noisy=noisy)
    possible = sorted((score for score in scores.values() if score > 0), reverse=True)
    assert [scores[path] for path in paths] == pytest.approx(possible[:num_nodes])
    assert tree.base == BASE
    assert len(run) == len(set(run))


@given(st.integers(0, 1 << 32), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_one_by_one_only_nodes_of_the_tree_are_run(seed, num_nodes):
    grower, run = grow(SmallDraft(seed, 3, 3), num_nodes, 1)
    assert set(run) <= {-1, *grower.best()[: num_nodes - 1].tolist()}


def test_the_first_nodes_of_a_tree_are_the_best_smaller_tree():
    draft = SmallDraft(4, 3, 3)
    large = grow(draft, 20, 3)[0].finish()
    small = grow(draft, 6, 3)[0].finish()
    assert large.tokens[:6].tolist() == small.tokens.tolist()
    assert large.parents[:6].tolist() == small.parents.tolist()


def test_a_grower_that_is_stopped_early_keeps_the_best_so_far():
    draft = SmallDraft(4, 3, 3)
    grower = TreeGrower(BASE, num_nodes=20, max_depth=3, noise=draft.noise)
    assert len(grower.finish().tokens) == 0
    grower.expand(grower.frontier(1), np.arange(3)[None], draft.laws[()][None])
    assert grower.finish().parents.tolist() == [-1] * int((draft.laws[()] > 0).sum())


def test_no_node_is_deeper_than_allowed():
    grower, _ = grow(SmallDraft(4, 2, 4), 40, 3, depth=2)
    assert grower.finish().depths.max() == 2


def test_a_tree_of_no_nodes_runs_no_model():
    grower, run = grow(SmallDraft(1, 2, 2), 0, 4)
    assert run == []
    assert len(grower.finish().tokens) == 0


def test_a_certain_draft_is_a_chain_with_parents_first():
    grower = TreeGrower(0, num_nodes=5, max_depth=9, noise=None)
    while len(nodes := grower.frontier(2)):
        grower.expand(nodes, np.array([[3, 8]]), np.array([[0.0, 1.0]]))  # every node scores as its parent does
    assert grower.finish().tokens.tolist() == [8] * 5
    assert grower.finish().parents.tolist() == [-1, 0, 1, 2, 3]


def test_padding_of_a_lattice_law_is_never_drafted():
    laws = quantise(np.array([[0.0, 0.6, 0.4, 0.0], [0.1, 0.2, 0.3, 0.4]]), 4, 8)
    grower = TreeGrower(0, num_nodes=9, max_depth=2, noise=None)
    grower.expand(grower.frontier(1), laws.ids[:1], laws.probs[:1])
    assert grower.finish().tokens.tolist() == [1, 2]
    nodes = grower.frontier(2)
    grower.expand(nodes, laws.ids, laws.probs)
    assert len(grower.finish().tokens) == 2 + 2 + 4
    assert grower.parents[2:].tolist().count(nodes[0]) == 2


def test_sharpness_is_a_power_of_every_score_before_it_is_normalised():
    draft = SmallDraft(5, 4, 3)
    sharp, plain = (TreeGrower(BASE, num_nodes=20, max_depth=3, noise=draft.noise, sharpness=s) for s in (2.5, 1.0))
    powered = TreeGrower(BASE, num_nodes=20, max_depth=3, noise=None)
    for grower in (sharp, plain, powered):
        while len(nodes := grower.frontier(1)):
            path = path_of(nodes[0], grower.tokens, grower.parents)
            law = draft.laws[path]
            weights = (law * np.exp(draft.table[BASE + len(path)])) ** 2.5 if grower is powered else law
            grower.expand(nodes, np.arange(4)[None], weights[None])
    trees = [(t.tokens.tolist(), t.parents.tolist()) for t in (sharp.finish(), plain.finish(), powered.finish())]
    assert trees[0] == trees[2] != trees[1]


@given(st.integers(0, 1 << 32), st.integers(1, 40), st.integers(1, 4), st.booleans())
@settings(deadline=None)
def test_a_tree_of_remembered_shares_is_that_of_the_laws(seed, num_nodes, width_beyond, noisy):
    """As whoever remembers the best of each law once grows trees from any node: no law is seen twice."""
    draft = SmallDraft(seed, 3, 4)
    known = {}
    for path, law in draft.laws.items():
        with np.errstate(divide="ignore"):
            weights = np.log(law) + (draft.table[BASE + len(path)] if noisy else 0.0)
        known[path] = shares(weights[None], max(num_nodes, width_beyond))
    for root in [(), (0,), (2, 1)]:
        grower = TreeGrower(BASE + len(root), num_nodes=num_nodes, max_depth=4 - len(root))
        fresh = TreeGrower(BASE + len(root), num_nodes=num_nodes, max_depth=4 - len(root), noise=draft.noise if noisy else None)
        while len(nodes := grower.frontier()):
            laws = [known[root + path_of(node, grower.tokens, grower.parents)] for node in nodes]
            width = max(ids.shape[1] for ids, _ in laws)
            assert all(ids.shape[1] == width for ids, _ in laws)
            grower.add(nodes, *(np.concatenate(columns) for columns in zip(*laws, strict=True)))
        while len(nodes := fresh.frontier(2)):
            paths = [root + path_of(node, fresh.tokens, fresh.parents) for node in nodes]
            fresh.expand(nodes, np.tile(np.arange(3), (len(nodes), 1)), np.stack([draft.laws[path] for path in paths]))
        one, other = grower.finish(), fresh.finish()
        assert [path_of(n, one.tokens, one.parents) for n in range(len(one.tokens))] == [
            path_of(n, other.tokens, other.parents) for n in range(len(other.tokens))
        ]


@given(st.integers(0, 1 << 32), st.integers(1, 9), st.sampled_from([7, 100, 165]))
def test_shares_are_the_best_of_each_row_in_order(seed, most, num_columns):
    weights = np.random.default_rng(seed).gumbel(size=(3, num_columns))
    weights[:, 2] = -np.inf
    best, logs = shares(weights, most)
    law = np.exp(weights) / np.exp(weights).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(logs), -np.sort(-law, axis=-1)[:, :most])
    np.testing.assert_allclose(np.take_along_axis(law, best, -1), np.exp(logs))
