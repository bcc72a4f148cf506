"""A step's decisions: each session's own, whatever the others ask for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cactus_core.acceptance import Acceptance
from cactus_core.block import Block, empty_block
from cactus_core.lattice import LatticeLaws
from cactus_core.sampling import SamplingParams
from cloud.decide import Ballot, decide_all, drafted_paths
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
]


def some_blocks(seed, count=9):
    shapes = [(4, 5), (1, 3), (3, 1), (0, 0), (2, 6)]
    return [
        random_block(seed + i, num_rows=k, length=n, vocab_size=V, support_size=25, base=2 + i) if n else empty_block(2 + i)
        for i, (k, n) in ((i, shapes[i % len(shapes)]) for i in range(count))
    ]


def some_ballots(seed, acceptances):
    blocks = some_blocks(seed, len(acceptances))
    return [
        Ballot(block, DraftTree.of(block), SamplingParams(1.0 if i % 2 else 0.8), acceptance, acceptance.budget, seed + i)
        for i, (block, acceptance) in enumerate(zip(blocks, acceptances, strict=True))
    ]


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
    laws = torch.softmax(torch.randn(num_rows.sum(), V, generator=torch.Generator().manual_seed(1)), -1)
    paths = drafted_paths(laws, blocks, trees, first_row)
    assert paths.lengths.tolist() == [block.length for block in blocks]
    assert paths.num_rows.tolist() == [block.num_rows for block in blocks]
    for b, (block, tree) in enumerate(zip(blocks, trees, strict=True)):
        for (k, i), law in np.ndenumerate(block.law_of):
            draft, target, off = (part[0] for part in paths.at(np.array([b]), np.array([k]), i))
            ids, probs = block.laws.ids[law], block.laws.probs[law]
            own = laws[first_row[b] + 1 + tree.node_before()[k, i]].double().numpy()
            assert np.array_equal(np.trim_zeros(draft, "b"), np.trim_zeros(probs, "b"))
            assert target[: len(ids)] == pytest.approx(np.where(probs > 0, own[ids], 0.0), abs=0)
            assert off == pytest.approx(1.0 - own[ids[probs > 0]].sum(), abs=1e-6)
            assert ids[paths.proposed[b, k, i]] == block.tokens[k, i]


def test_no_law_is_read_twice():
    block = random_block(5, num_rows=8, length=3, vocab_size=V, support_size=3)
    tree = DraftTree.of(block)
    paths = drafted_paths(torch.full((1 + len(tree.tokens), V), 1 / V), [block], [tree], np.zeros(1, dtype=np.int64))
    assert paths.draft_probs.shape[1] == len(block.laws.ids) < block.tokens.size


def test_one_law_drafted_from_at_two_places_meets_the_targets_law_at_each():
    """A drafter that ignores the text has one law everywhere; the target has not."""
    laws = LatticeLaws(np.array([[3, 7]]), np.array([[1, 1]]), 1)
    block = Block(2, np.array([[3, 7], [7, 7]]), np.zeros((2, 2), dtype=np.int64), laws)
    tree = DraftTree.of(block)
    target = torch.softmax(torch.randn(1 + len(tree.tokens), V, generator=torch.Generator().manual_seed(2)), -1)
    paths = drafted_paths(target, [block], [tree], np.zeros(1, dtype=np.int64))
    for k in range(2):
        for i in range(2):
            _, told, _ = paths.at(np.array([0]), np.array([k]), i)
            assert told[0] == pytest.approx(target[1 + tree.node_before()[k, i], [3, 7]].tolist())


@pytest.mark.parametrize("seed", range(10))
def test_sessions_of_different_acceptances_decide_as_they_would_alone(seed):
    ballots = some_ballots(seed, [*ACCEPTANCES, *ACCEPTANCES[::-1]])
    logits = logits_for(ballots, seed)
    together = decide_all(logits, ballots)
    for ballot, rows, outcome in zip(ballots, rows_of(ballots), together, strict=True):
        [alone] = decide_all(logits[rows], [ballot])
        assert (alone.row, alone.num_accepted, alone.final) == (outcome.row, outcome.num_accepted, outcome.final)
        assert alone.logprobs == pytest.approx(outcome.logprobs, abs=1e-6)
        assert alone.divergence == pytest.approx(outcome.divergence, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_every_token_has_an_entry_that_float32_holds_and_nobody_spends_more_than_is_left(seed):
    ballots = some_ballots(seed, ACCEPTANCES)
    ballots = [replace(ballot, left=min(ballot.left, 0.1)) if ballot.acceptance.relaxation else ballot for ballot in ballots]
    for ballot, outcome in zip(ballots, decide_all(logits_for(ballots, seed), ballots), strict=True):
        assert len(outcome.divergence) == len(outcome.logprobs) == outcome.num_accepted + 1
        assert list(outcome.divergence) == np.float32(outcome.divergence).tolist()
        assert sum(outcome.divergence) <= (np.float32(ballot.left) if ballot.acceptance.relaxation else 0.0)


def test_a_step_of_empty_blocks_decodes():
    ballots = [replace(ballot, block=empty_block(4), tree=DraftTree.of(empty_block(4))) for ballot in some_ballots(1, ACCEPTANCES)]
    outcomes = decide_all(logits_for(ballots), ballots)
    assert [(outcome.num_accepted, outcome.divergence) for outcome in outcomes] == [(0, (0.0,))] * len(ballots)
