"""Coupled verification is exact: its text is the text of plain decoding under the same noise, whose law is the target's.

The enumeration draws each position's noise from a few vectors, so that every outcome can be had, and compares with the
product of the positions' laws. Why Gumbel noise makes such a law q: with E = e^-G, exponential of rate 1, argmax(log q + G) is
argmin(E / q), and E(x)/q(x) is exponential of rate q(x), so x comes first with probability
integral of q(x) e^(-q(x) t) · prod over y != x of e^(-q(y) t) dt = integral of q(x) e^-t dt = q(x).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from benchmarks.enumerating import every_branch
from benchmarks.small_models import SmallPair, prefix_index, random_pair, target_law
from cactus_core.coins import Bools, Floats, Ints, Site
from cactus_core.coupled import CoupledTree, empty_tree, own_tokens, walk
from cactus_core.growing import TreeGrower
from cactus_core.gumbel import gumbel

# (vocabulary, support, drafted tokens before a text is whole, noise vectors a position)
SHAPES = [(3, 3, 2, 3), (4, 2, 1, 4), (2, 2, 3, 2), (4, 3, 2, 2), (3, 2, 3, 2)]
MODELS_A_SHAPE = 48

Draft = Callable[[Ints, Floats], CoupledTree]  # from a text so far `[n]` and its request's noise `[T, V]`
Verifier = Callable[[Floats, Floats, Bools], Ints]  # from laws, noise and which tokens are drafted there, all `[M, V]`


def honest(laws: Floats, noise: Floats, drafted: Bools) -> Ints:
    return own_tokens(laws, noise)


def prefers_drafted(laws: Floats, noise: Floats, drafted: Bools) -> Ints:
    offered = np.where(drafted, laws, 0.0)
    return own_tokens(np.where(offered.any(-1, keepdims=True), offered, laws), noise)


def served(pair: SmallPair, noise: Floats, draft: Draft, verifier: Verifier = honest) -> Ints:
    """The texts `[B, T]` of B requests with `noise` `[B, T, V]`, drafted and walked round by round until each is whole."""
    texts: list[list[int]] = [[] for _ in noise]
    while live := [b for b, text in enumerate(texts) if len(text) < noise.shape[1]]:
        trees = [draft(np.array(texts[b], dtype=np.int64), noise[b]) for b in live]
        num_nodes = np.array([len(tree.tokens) for tree in trees])
        tokens, parents = np.full((2, len(live), num_nodes.max()), -1)
        own = np.full((len(live), 1 + num_nodes.max()), -1)
        for i, (b, tree) in enumerate(zip(live, trees, strict=True)):
            n = num_nodes[i]
            tokens[i, :n], parents[i, :n] = tree.tokens, tree.parents
            prefixes = [texts[b]]
            for parent, token in zip(tree.parents, tree.tokens, strict=True):
                prefixes.append([*prefixes[1 + parent], token])
            laws = np.stack([law_after(pair.target, prefix, pair.vocab_size) for prefix in prefixes])
            drafted = np.zeros(laws.shape, dtype=np.bool_)
            drafted[1 + tree.parents, tree.tokens] = True
            own[i, : 1 + n] = verifier(laws, noise[b, [len(prefix) for prefix in prefixes]], drafted)
        walks = walk(tokens, parents, num_nodes, own)
        for i, b in enumerate(live):
            texts[b] += [*tokens[i, walks.path[i, : walks.num_accepted[i]]], walks.final[i]]
    return np.array(texts)


def law_after(tables: list[Floats], prefix: list[int], vocab_size: int) -> Floats:
    return tables[len(prefix)][prefix_index(np.array(prefix, dtype=np.int64), vocab_size)]


def grower_of(pair: SmallPair, num_nodes: int, max_batch: int) -> Draft:
    """Drafts as an edge does, with the pair's draft model and the request's own noise."""

    def draft(text: Ints, noise: Floats) -> CoupledTree:
        room = pair.length - len(text)
        grower = TreeGrower(len(text), num_nodes=num_nodes, max_depth=room, noise=lambda positions, ids: noise[positions, ids])
        while len(nodes := grower.frontier(max_batch)):
            laws = []
            for node in nodes:
                path = []
                while node >= 0:
                    path.insert(0, grower.tokens[node])
                    node = grower.parents[node]  # noqa: PLW2901  # climbing to the text
                laws.append(law_after(pair.draft, [*text, *path], pair.vocab_size))
            grower.expand(nodes, np.tile(np.arange(pair.support_size), (len(nodes), 1)), np.stack(laws))
        return grower.finish()

    return draft


def no_draft(text: Ints, noise: Floats) -> CoupledTree:
    return empty_tree(len(text))


def any_tree(rng: np.random.Generator, pair: SmallPair) -> Draft:
    """Trees that know nothing of draft or noise: any shape, any tokens, also beyond the draft's support."""

    def draft(text: Ints, noise: Floats) -> CoupledTree:
        nodes: list[tuple[int, int]] = []
        depths: list[int] = []
        for _ in range(rng.integers(12)):
            node = int(rng.integers(-1, len(nodes))), int(rng.integers(pair.vocab_size))
            depth = 1 + (depths[node[0]] if node[0] >= 0 else 0)
            if node not in nodes and depth <= pair.length - len(text):
                nodes.append(node)
                depths.append(depth)
        parents, tokens = np.array(nodes, dtype=np.int64).reshape(-1, 2).T
        return CoupledTree(len(text), tokens, parents)

    return draft


def hard_pair(rng: np.random.Generator, vocab_size: int, support_size: int, length: int, kind: int) -> SmallPair:
    """Random laws; draft and target equal where they can be; disjoint supports; point masses."""
    pair = random_pair(rng, vocab_size, support_size, length, equal=kind == 1 and support_size == vocab_size)
    if kind == 2 and support_size < vocab_size:
        elsewhere = np.arange(vocab_size) >= support_size
        target = [np.where(elsewhere, table + 1e-3, 0.0) for table in pair.target]
        return SmallPair(pair.draft, [table / table.sum(-1, keepdims=True) for table in target], support_size)
    if kind == 3:
        points = [np.eye(vocab_size)[rng.integers(vocab_size, size=len(table))] for table in pair.target]
        return SmallPair(pair.draft, points, support_size)
    return pair


def law_error(rng: np.random.Generator, pair: SmallPair, num_vectors: int, draft: Draft, verifier: Verifier = honest) -> float:
    """Total variation between what is served and the product of the laws that the noise gives each position alone."""
    shape = (pair.length + 1, num_vectors)
    vectors, weights = rng.gumbel(size=(*shape, pair.vocab_size)), rng.dirichlet(np.ones(num_vectors), shape[0])

    def program(coins, num_sessions):
        drawn = [coins.draw(np.tile(weights[i], (num_sessions, 1)), Site.GUMBEL, i) for i in range(shape[0])]
        return served(pair, np.stack([vectors[i, index] for i, index in enumerate(drawn)], 1), draft, verifier)

    texts, probability = every_branch(program)
    assert probability.sum() == pytest.approx(1.0, abs=1e-12)
    law = np.bincount(prefix_index(texts, pair.vocab_size), probability, minlength=pair.vocab_size ** shape[0])
    by_position = []
    for i, table in enumerate(pair.target):
        own = np.stack([own_tokens(table, vector) for vector in vectors[i]])  # [F, V**i]
        by_position.append(np.einsum("f,fpv->pv", weights[i], np.eye(pair.vocab_size)[own]))
    return 0.5 * float(np.abs(law - target_law(SmallPair(pair.draft, by_position, pair.support_size))).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_drafted_texts_have_the_law_of_undrafted_ones(shape):
    vocab_size, support_size, length, num_vectors = shape
    rng = np.random.default_rng(shape)
    for i in range(MODELS_A_SHAPE):
        pair = hard_pair(rng, vocab_size, support_size, length, i % 4)
        draft = grower_of(pair, num_nodes=int(rng.integers(8)), max_batch=int(rng.integers(1, 4)))
        assert law_error(rng, pair, num_vectors, draft) <= 1e-12


def test_the_proof_would_notice_a_verifier_that_prefers_drafted_tokens():
    rng = np.random.default_rng(5)
    pair = random_pair(rng, 3, 3, 2)
    draft = grower_of(pair, num_nodes=3, max_batch=1)
    assert law_error(rng, pair, 4, draft) <= 1e-12
    assert law_error(rng, pair, 4, draft, prefers_drafted) > 1e-3


@given(st.integers(0, 1 << 32), st.integers(0, (1 << 64) - 1), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_the_text_is_the_same_whatever_tree_is_drafted(model_seed, seed, kind):
    rng = np.random.default_rng(model_seed)
    pair = hard_pair(rng, 4, 3, 4, kind)
    noise = gumbel(seed, np.arange(5)[:, None], np.arange(4))[None]
    plain = served(pair, noise, no_draft)
    for draft in (any_tree(rng, pair), any_tree(rng, pair), grower_of(pair, 6, 2)):
        assert (served(pair, noise, draft) == plain).all()


def test_a_chi_square_does_not_reject_the_target_as_the_law_of_argmax():
    q = np.array([0.3, 0.0, 0.02, 0.4, 0.08, 0.2])
    noise = gumbel(np.arange(8)[:, None, None], np.arange(5000)[:, None], np.arange(6)).reshape(-1, 6)
    seen = np.bincount(own_tokens(np.tile(q, (len(noise), 1)), noise), minlength=6)
    assert seen[1] == 0
    assert chisquare(seen[q > 0], q[q > 0] * len(noise)).pvalue > 1e-3


def test_a_chi_square_does_not_reject_the_target_as_the_law_of_drafted_texts():
    pair = random_pair(np.random.default_rng(3), 3, 2, 1)
    noise = gumbel(np.arange(2000)[:, None, None], np.arange(2)[:, None], np.arange(3))
    texts = served(pair, noise, grower_of(pair, num_nodes=2, max_batch=1))
    law, seen = target_law(pair), np.bincount(prefix_index(texts, 3), minlength=9)
    assert seen[law == 0].sum() == 0
    assert chisquare(seen[law > 0], law[law > 0] * len(texts)).pvalue > 1e-3


def test_greedy_texts_need_no_noise_and_do_not_mind_any():
    rng = np.random.default_rng(8)
    pair = hard_pair(rng, 3, 3, 3, 3)
    likeliest = served(pair, np.zeros((1, 4, 3)), no_draft)
    noise = rng.gumbel(size=(20, 4, 3))
    assert (served(pair, noise, grower_of(pair, 5, 2)) == likeliest).all()
    # Without noise the grower ranks by the draft's law itself.
    assert (served(pair, np.zeros((1, 4, 3)), grower_of(pair, 5, 2)) == likeliest).all()
