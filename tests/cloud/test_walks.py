"""Walked trees: the core's own walk, batched, and the text of plain decoding whatever is drafted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cactus_core.acceptance import Acceptance
from cactus_core.coupled import CoupledTree, empty_tree, own_tokens, walk
from cactus_core.gumbel import gumbel
from cactus_core.sampling import SamplingParams, probabilities
from cactus_core.session import Request
from cloud.ballot import Ballot
from cloud.decide import decide_all
from cloud.laws import TargetLaws
from cloud.tree import DraftTree
from cloud.walks import walk_all

V = 24
PROMPT = (3, 1, 4)
NUM_TOKENS = 9
SAMPLINGS = [
    SamplingParams(),
    SamplingParams(0.0),
    SamplingParams(1.0, top_k=3),
    SamplingParams(0.7, top_p=0.8),
    SamplingParams(1.3, min_p=0.1),
]
PENALISED = [
    SamplingParams(0.8, presence_penalty=0.5, frequency_penalty=0.3),
    SamplingParams(repetition_penalty=1.4, logit_bias=((2, 1.5), (5, -2.0))),
    SamplingParams(0.0, frequency_penalty=1.0),
]
seeds = st.integers(0, 2**64 - 1)


class TableModel:
    """Logits `[V]` that depend on the last two tokens and on nothing else."""

    def __init__(self, seed):
        self._table = 2.0 * torch.randn(V, V, V, generator=torch.Generator().manual_seed(seed))

    def rows(self, text, tree):
        """`[1 + N, V]`: at the end of the text and at the tree's nodes."""
        ends = [text[-2:]]
        for parent, token in zip(tree.parents, tree.tokens, strict=True):
            ends.append([ends[1 + parent][1], int(token)])
        return torch.stack([self._table[before, last] for before, last in ends])


def tree_of(base, nodes):
    parents, tokens = np.array(nodes, dtype=np.int64).reshape(-1, 2).T
    return CoupledTree(base, tokens, parents)


def no_tree(text):
    return empty_tree(len(text))


def any_tree(rng, path=()):
    """`path` and other nodes, in any order in which parents come first."""

    def draft(text):
        nodes, end, left = [], -1, list(path[len(text) :])[: rng.integers(8)]
        for _ in range(rng.integers(16)):
            if left and rng.random() < 0.6:
                node = end, left.pop(0)
                if node not in nodes:
                    nodes.append(node)
                end = nodes.index(node)
            elif (node := (int(rng.integers(-1, len(nodes))), int(rng.integers(V)))) not in nodes:
                nodes.append(node)
        return tree_of(len(text), nodes)

    return draft


def ballot(text, tree, sampling, seed):
    request = Request(PROMPT, NUM_TOKENS, seed, "f", sampling=sampling, acceptance=Acceptance("coupled"))
    return Ballot(tree, DraftTree.of(tree), request, text, float("inf"))


def first_rows(ballots):
    counts = np.array([1 + len(each.tree.tokens) for each in ballots])
    return np.cumsum(counts) - counts


def walked(logits, ballots):
    """By walk_all alone."""
    params = [each.request.sampling for each in ballots]
    laws = TargetLaws(logits, params, [1 + len(each.tree.tokens) for each in ballots])
    return walk_all(laws, ballots, first_rows(ballots))


def decided(logits, ballots):
    """By the whole decision stage, penalties and all."""
    return [(outcome.nodes, outcome.tokens) for outcome in decide_all(logits, ballots)]


def served(model, asked, drafts, judge):
    """The texts of requests `asked`, (sampling, seed) each, drafted by `drafts` and judged round by round until each is whole."""
    texts = [list(PROMPT) for _ in asked]
    while live := [b for b, text in enumerate(texts) if len(text) < len(PROMPT) + NUM_TOKENS]:
        trees = [drafts[b](texts[b]) for b in live]
        ballots = [ballot(texts[b], tree, *asked[b]) for b, tree in zip(live, trees, strict=True)]
        logits = torch.cat([model.rows(texts[b], tree) for b, tree in zip(live, trees, strict=True)])
        for b, tree, (nodes, tokens) in zip(live, trees, judge(logits, ballots), strict=True):
            assert tree.tokens[list(nodes)].tolist() == list(tokens[:-1])
            texts[b] += tokens
    return [text[: len(PROMPT) + NUM_TOKENS] for text in texts]


@given(st.integers(0, 2**32 - 1), st.lists(seeds, min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize(("samplings", "judge"), [(SAMPLINGS, walked), (SAMPLINGS + PENALISED, decided)])
def test_the_text_is_that_of_plain_decoding_whatever_is_drafted_and_whoever_else_is_served(samplings, judge, model_seed, request_seeds):
    rng, model = np.random.default_rng(model_seed), TableModel(model_seed % 1000)
    asked = [(samplings[rng.integers(len(samplings))], seed) for seed in request_seeds]
    plain = served(model, asked, [no_tree] * len(asked), judge)
    blind, well_told = [any_tree(rng)] * len(asked), [any_tree(rng, path) for path in plain]
    assert served(model, asked, blind, judge) == plain
    assert served(model, asked, well_told, judge) == plain
    assert served(model, asked[:1], well_told[:1], judge) == plain[:1]


@given(st.integers(0, 2**32 - 1), seeds, st.sampled_from(SAMPLINGS[:3]))  # float32 may cut others at another edge
@settings(deadline=None)
def test_a_walk_is_that_of_the_core(model_seed, seed, sampling):
    rng, model = np.random.default_rng(model_seed), TableModel(model_seed % 1000)
    [plain] = served(model, [(sampling, seed)], [no_tree], walked)
    text = plain[: rng.integers(len(PROMPT), len(plain))]
    tree = any_tree(rng, plain)(text)
    logits = model.rows(text, tree)
    positions = len(text) + np.concatenate([[0], tree.depths])
    own = own_tokens(probabilities(logits.numpy(), sampling), gumbel(seed, positions[:, None], np.arange(V)))
    walks = walk(tree.tokens[None], tree.parents[None], np.array([len(tree.tokens)]), own[None])
    [(nodes, tokens)] = walked(logits, [ballot(text, tree, sampling, seed)])
    assert list(nodes) == walks.path[0].tolist()
    assert list(tokens) == [*tree.tokens[walks.path[0]].tolist(), walks.final[0]]


class ScriptedLaws:
    """The own token of each row is given; what was asked for is kept."""

    def __init__(self, own):
        self._own = torch.tensor(own)
        self.asked = []

    def own_tokens(self, rows, seeds, positions):
        self.asked.append((rows.tolist(), seeds.tolist(), positions.tolist()))
        return self._own[torch.from_numpy(rows)]


#       0:7      1:4
#      /   \
#    2:7   3:9
#    /
#  4:1
TREE = [(-1, 7), (-1, 4), (0, 7), (0, 9), (2, 1)]


def test_only_who_still_walks_asks_for_a_token_where_it_stands():
    own = [4, 0, 8, 0, 0, 0, 5, 7, 7, 0, 1, 0, 2]
    laws = ScriptedLaws(own)
    params = SamplingParams()
    ballots = [
        ballot([0] * 3, tree_of(3, TREE), params, 1 << 63),
        ballot([0] * 9, tree_of(9, []), params, 5),
        ballot([0] * 5, tree_of(5, TREE), params, 6),
    ]
    assert walk_all(laws, ballots, first_rows(ballots)) == [((1,), (4, 8)), ((), (5,)), ((0, 2, 4), (7, 7, 1, 2))]
    assert laws.asked == [
        ([0, 6, 7], [1 << 63, 5, 6], [3, 9, 5]),
        ([2, 8], [1 << 63, 6], [4, 6]),
        ([10], [6], [7]),
        ([12], [6], [8]),
    ]


def test_nobody_walks_nowhere():
    laws = ScriptedLaws([0])
    assert walk_all(laws, [], np.zeros(0, dtype=np.int64)) == []
    assert not laws.asked


def test_a_step_of_empty_trees_decodes():
    ballots = [ballot([0] * 4, no_tree([0] * 4), sampling, 7 + n) for n, sampling in enumerate(SAMPLINGS)]
    logits = torch.randn(len(ballots), V, generator=torch.Generator().manual_seed(0))
    for nodes, tokens in walked(logits, ballots):
        assert (nodes, len(tokens)) == ((), 1)
