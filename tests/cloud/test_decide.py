"""A step's decisions: each session's own, whatever the others ask for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from cactus_core.acceptance import Acceptance
from cactus_core.block import Block, empty_block
from cactus_core.coupled import CoupledTree
from cactus_core.lattice import LatticeLaws
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams, probabilities
from cactus_core.session import Request
from cloud.ballot import Ballot
from cloud.blocks import drafted_paths
from cloud.decide import decide_all
from cloud.laws import TargetLaws
from cloud.tree import DraftTree
from tests.core.drafts import random_block

V = 40
ACCEPTANCES = [
    Acceptance(),
    Acceptance("quota+token"),
    Acceptance("nearest+block", "certified", 0.3),
    Acceptance("nearest+block", "certified", 0.3, budget=0.4),
    Acceptance("first+block", "priced", 1.0, budget=2.0),
    Acceptance("kseq+block", "interpolate", 0.5),
    Acceptance("coupled"),
]
SAMPLINGS = [
    SamplingParams(),
    SamplingParams(0.8),
    SamplingParams(presence_penalty=1.0, frequency_penalty=0.5, repetition_penalty=1.3, logit_bias=((3, 4.0), (7, -100.0))),
    SamplingParams(1.2, top_k=9, min_p=0.05),
    SamplingParams(0.0),
]


def some_blocks(seed, count=9):
    shapes = [(4, 5), (1, 3), (3, 1), (0, 0), (2, 6)]
    return [
        random_block(seed + i, num_rows=k, length=n, vocab_size=V, support_size=25, base=2 + i) if n else empty_block(2 + i)
        for i, (k, n) in ((i, shapes[i % len(shapes)]) for i in range(count))
    ]


def ballot(drafts, *, sampling=SAMPLINGS[0], acceptance=ACCEPTANCES[0], seed=0, num_top_logprobs=0, text=None):
    """One session's, at a text of as many tokens as its drafts follow; the first is the prompt."""
    text = text or [(7 * i + seed) % V for i in range(drafts.base)]
    request = Request(tuple(text[:1]), 100, seed, "", sampling=sampling, acceptance=acceptance, num_top_logprobs=num_top_logprobs)
    return Ballot(drafts, DraftTree.of(drafts), request, text, acceptance.budget)


def some_ballots(seed, acceptances):
    blocks = some_blocks(seed, len(acceptances))
    return [
        ballot(
            as_tree(block) if acceptance.is_coupled else block,
            sampling=SAMPLINGS[i % len(SAMPLINGS)],
            acceptance=acceptance,
            seed=seed + i,
            num_top_logprobs=i % 3,
        )
        for i, (block, acceptance) in enumerate(zip(blocks, acceptances, strict=True))
    ]


def as_tree(block):
    tree = DraftTree.of(block)
    return CoupledTree(block.base, tree.tokens, tree.parents)


def rows_of(ballots):
    """The slice of each ballot's rows."""
    ends = np.cumsum([1 + len(ballot.tree.tokens) for ballot in ballots])
    return [slice(end - 1 - len(ballot.tree.tokens), end) for end, ballot in zip(ends, ballots, strict=True)]


def logits_for(ballots, seed=0):
    return 2.0 * torch.randn(rows_of(ballots)[-1].stop, V, generator=torch.Generator().manual_seed(seed))


def test_every_place_of_every_path_is_told_both_models_laws():
    blocks = some_blocks(3)
    trees = [DraftTree.of(block) for block in blocks]
    num_rows = np.array([1 + len(tree.tokens) for tree in trees])
    first_row = np.cumsum(num_rows) - num_rows
    logits = torch.randn(num_rows.sum(), V, generator=torch.Generator().manual_seed(1))
    laws = torch.softmax(logits, -1)
    paths = drafted_paths(TargetLaws(logits, [SamplingParams()], num_rows.sum()), blocks, trees, first_row)
    assert paths.lengths.tolist() == [block.length for block in blocks]
    assert paths.num_rows.tolist() == [block.num_rows for block in blocks]
    for b, (block, tree) in enumerate(zip(blocks, trees, strict=True)):
        for (k, i), law in np.ndenumerate(block.law_of):
            draft, target, off = (part[0] for part in paths.at(np.array([b]), np.array([k]), i))
            ids, probs = block.laws.ids[law], block.laws.probs[law]
            own = laws[first_row[b] + 1 + tree.node_before()[k, i]].double().numpy()
            assert np.array_equal(np.trim_zeros(draft, "b"), np.trim_zeros(probs, "b"))
            assert target[: len(ids)] == pytest.approx(np.where(probs > 0, own[ids], 0.0), rel=1e-5, abs=0)
            assert off == pytest.approx(1.0 - own[ids[probs > 0]].sum(), abs=1e-6)
            assert ids[paths.proposed[b, k, i]] == block.tokens[k, i]


def test_no_law_is_read_twice():
    block = random_block(5, num_rows=8, length=3, vocab_size=V, support_size=3)
    tree = DraftTree.of(block)
    laws = TargetLaws(torch.zeros(1 + len(tree.tokens), V), [SamplingParams()], 1 + len(tree.tokens))
    paths = drafted_paths(laws, [block], [tree], np.zeros(1, dtype=np.int64))
    assert paths.draft_probs.shape[1] == len(block.laws.ids) < block.tokens.size


def test_one_law_drafted_from_at_two_places_meets_the_targets_law_at_each():
    """A drafter that ignores the text has one law everywhere; the target has not."""
    laws = LatticeLaws(np.array([[3, 7]]), np.array([[1, 1]]), 1)
    block = Block(2, np.array([[3, 7], [7, 7]]), np.zeros((2, 2), dtype=np.int64), laws)
    tree = DraftTree.of(block)
    logits = torch.randn(1 + len(tree.tokens), V, generator=torch.Generator().manual_seed(2))
    target = torch.softmax(logits, -1)
    paths = drafted_paths(TargetLaws(logits, [SamplingParams()] * len(logits)), [block], [tree], np.zeros(1, dtype=np.int64))
    for k in range(2):
        for i in range(2):
            _, told, _ = paths.at(np.array([0]), np.array([k]), i)
            assert told[0] == pytest.approx(target[1 + tree.node_before()[k, i], [3, 7]].tolist())


@pytest.mark.parametrize("seed", range(10))
def test_sessions_of_different_acceptances_and_samplings_decide_as_they_would_alone(seed):
    ballots = some_ballots(seed, [*ACCEPTANCES, *ACCEPTANCES[::-1]])
    logits = logits_for(ballots, seed)
    together = decide_all(logits, ballots)
    for own, rows, outcome in zip(ballots, rows_of(ballots), together, strict=True):
        [alone] = decide_all(logits[rows], [own])
        assert (alone.place, alone.nodes, alone.tokens) == (outcome.place, outcome.nodes, outcome.tokens)
        assert alone.logprobs == pytest.approx(outcome.logprobs, abs=1e-6)
        assert alone.divergence == pytest.approx(outcome.divergence, abs=1e-6)
        assert [[token for token, _ in place] for place in alone.top_logprobs] == [
            [token for token, _ in place] for place in outcome.top_logprobs
        ]


@pytest.mark.parametrize("seed", range(10))
def test_what_stands_is_a_path_of_the_tree_with_the_logprobs_of_the_law_as_sampled(seed):
    ballots = some_ballots(seed, ACCEPTANCES * 2)
    logits = logits_for(ballots, seed)
    for own, rows, outcome in zip(ballots, rows_of(ballots), decide_all(logits, ballots), strict=True):
        tree, sampling, num_top = own.tree, own.request.sampling, own.request.num_top_logprobs
        assert tree.parents[list(outcome.nodes)].tolist() == [-1, *outcome.nodes[:-1]][: len(outcome.nodes)]
        assert tree.tokens[list(outcome.nodes)].tolist() == list(outcome.tokens[:-1])
        assert len(outcome.tokens) == len(outcome.logprobs) == len(outcome.divergence) == len(outcome.nodes) + 1
        assert len(outcome.top_logprobs) == (len(outcome.tokens) if num_top else 0)
        for i, (token, logprob) in enumerate(zip(outcome.tokens, outcome.logprobs, strict=True)):
            row = logits[rows].numpy()[[0 if i == 0 else 1 + outcome.nodes[i - 1]]]
            text = [*own.text, *outcome.tokens[:i]]
            [law] = probabilities(Penalties(sampling, text, 1).after(np.full((1, 0), -1)).edited(row), sampling)
            with np.errstate(divide="ignore"):
                assert logprob == pytest.approx(np.log(law[token]), abs=1e-4)
            if num_top:
                likeliest = np.argsort(-law)[: min(num_top, (law > 0).sum())]
                assert [token for token, _ in outcome.top_logprobs[i]] == likeliest.tolist()
                assert [logprob for _, logprob in outcome.top_logprobs[i]] == pytest.approx(np.log(law[likeliest]), abs=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_every_token_has_an_entry_that_float32_holds_and_nobody_spends_more_than_is_left(seed):
    ballots = some_ballots(seed, ACCEPTANCES)
    ballots = [replace(own, left=min(own.left, 0.1)) if own.request.acceptance.relaxation else own for own in ballots]
    for own, outcome in zip(ballots, decide_all(logits_for(ballots, seed), ballots), strict=True):
        assert len(outcome.divergence) == len(outcome.logprobs) == len(outcome.tokens)
        assert list(outcome.divergence) == np.float32(outcome.divergence).tolist()
        assert sum(outcome.divergence) <= (np.float32(own.left) if own.request.acceptance.relaxation else 0.0)


def test_a_step_without_drafts_decodes():
    empty = empty_block(4)
    ballots = [ballot(as_tree(empty) if each.is_coupled else empty, acceptance=each, seed=i) for i, each in enumerate(ACCEPTANCES)]
    outcomes = decide_all(logits_for(ballots), ballots)
    assert [(outcome.place, outcome.nodes, len(outcome.tokens), outcome.divergence) for outcome in outcomes] == [(0, (), 1, (0.0,))] * len(
        ballots
    )


def test_a_token_that_is_decoded_is_the_same_whatever_block_rule_was_asked_for():
    ballots = [ballot(empty_block(9), acceptance=each, seed=5) for each in ACCEPTANCES if not each.is_coupled]
    logits = logits_for(ballots[:1]).expand(len(ballots), V)
    assert len({outcome.tokens for outcome in decide_all(logits, ballots)}) == 1


SMALL_V = 4
SHAPED = {
    "penalties": SamplingParams(presence_penalty=0.8, frequency_penalty=0.6, repetition_penalty=1.5),
    "rewards": SamplingParams(0.8, frequency_penalty=-0.9, repetition_penalty=0.7),
    "min_p and bias": SamplingParams(1.1, min_p=0.2, logit_bias=((1, 1.5), (3, -0.7))),
}


class Table:
    """A model of few tokens: the logits after each text, fixed and random."""

    def __init__(self, seed):
        self._seed = seed
        self._rows = {}

    def logits(self, text):
        text = tuple(text)
        if text not in self._rows:
            self._rows[text] = np.random.default_rng([self._seed, *text]).normal(size=SMALL_V).astype(np.float32) * 1.5
        return self._rows[text]

    def law(self, prompt, emitted, sampling):
        """The law of what follows, by the core, with nothing drafted."""
        edits = Penalties(sampling, [*prompt, *emitted], len(prompt)).after(np.full((1, 0), -1))
        return probabilities(edits.edited(self.logits([*prompt, *emitted])[None]), sampling)[0]


def first_tokens(table, sampling, acceptance, drafted, num_texts, length):
    """How often each text of `length` tokens comes, decided round by round with the drafts of `drafted(base, seed)`."""
    prompt, seen = [2, 0, 2], {}
    texts = [list(prompt) for _ in range(num_texts)]
    while unfinished := [n for n, text in enumerate(texts) if len(text) < len(prompt) + length]:
        ballots = [
            Ballot(
                drafts := drafted(len(texts[n]), n),
                DraftTree.of(drafts),
                Request(tuple(prompt), 100, n, "", sampling=sampling, acceptance=acceptance),
                texts[n],
                acceptance.budget,
            )
            for n in unfinished
        ]
        rows = [table.logits([*own.text, *way]) for own in ballots for way in ways(own.tree)]
        for n, outcome in zip(unfinished, decide_all(torch.from_numpy(np.stack(rows)), ballots), strict=True):
            texts[n] += outcome.tokens
    for text in texts:
        key = tuple(text[len(prompt) : len(prompt) + length])
        seen[key] = seen.get(key, 0) + 1
    return prompt, seen


def ways(tree):
    """The drafted tokens up to each row: the end of the text, then each node."""
    found = [()]
    for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
        found.append((*found[1 + parent], token))
    return found


def drafted_block(base, seed):
    """Two paths from a drafter that ignores the text, and never says 3."""
    tokens = np.random.default_rng([base, seed]).choice(3, (2, 2), p=[0.5, 0.25, 0.25])
    return Block(base, tokens, np.zeros((2, 2), dtype=np.int64), LatticeLaws(np.array([[0, 1, 2]]), np.array([[2, 1, 1]]), 2))


def drafted_tree(base, seed):
    return CoupledTree(base, np.array([seed % 4, (seed + 1) % 4, 0, 2, 2, 1]), np.array([-1, -1, 0, 0, 1, 3]))


@pytest.mark.parametrize("family", ["block", "coupled"])
@pytest.mark.parametrize("name", SHAPED)
def test_texts_have_the_law_that_the_sampling_makes_whether_or_not_drafts_came(name, family):
    sampling, table, num_texts, length = SHAPED[name], Table(3), 1500, 3
    drafted, acceptance = {"block": (drafted_block, Acceptance()), "coupled": (drafted_tree, Acceptance("coupled"))}[family]
    prompt, seen = first_tokens(table, sampling, acceptance, drafted, num_texts, length)
    law = {(): 1.0}
    for _ in range(length):
        law = {
            (*text, token): mass * probability
            for text, mass in law.items()
            for token, probability in enumerate(table.law(prompt, text, sampling))
            if probability > 0
        }
    assert p_value(seen, law, num_texts) > 1e-3
    # The test has teeth: without what was asked for, the same model's texts are others.
    plain = {text: np.prod([table.law(prompt, text[:i], SamplingParams())[token] for i, token in enumerate(text)]) for text in law}
    assert p_value(seen, plain, num_texts) < 1e-6


def p_value(seen, law, num_texts):
    assert set(seen) <= set(law)
    expected, counts = np.array([*law.values()]) * num_texts, np.array([seen.get(text, 0) for text in law])
    rare = expected < 5
    expected, counts = np.append(expected[~rare], expected[rare].sum()), np.append(counts[~rare], counts[rare].sum())
    kept = expected > 0
    return chisquare(counts[kept], expected[kept] / expected[kept].sum() * counts[kept].sum()).pvalue
