"""Prompt lookup guesses what followed before, and keeps the contract of `Drafter`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.block import Block
from cactus_core.coupled import CoupledTree
from cactus_core.errors import InvalidInput, LimitExceeded
from cactus_core.sampling import SamplingParams
from edge.drafting.drafter import Drafter
from edge.drafting.ngram_counts import MAX_ORDER, NgramCounts
from edge.drafting.ngram_drafter import NgramDrafter

V = 12
GREEDY, WARM = SamplingParams(0.0), SamplingParams(1.0)
texts = st.lists(st.integers(0, 3), min_size=1, max_size=30)


def fresh() -> NgramDrafter:
    return NgramDrafter(V, 100)


def tree_of(drafter: Drafter, text: list[int], num_nodes: int = 8, max_depth: int = 4, params: SamplingParams = GREEDY) -> CoupledTree:
    return drafter.draft_tree(text, num_nodes=num_nodes, max_depth=max_depth, params=params, seed=5)


def block_of(drafter: Drafter, text: list[int], num_rows: int = 3, length: int = 4, params: SamplingParams = WARM) -> Block:
    return drafter.draft(text, num_rows=num_rows, length=length, params=params, seed=5)


def paths(tree: CoupledTree) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return found


def test_what_followed_the_longest_earlier_run_is_drafted() -> None:
    text = [1, 2, 3, 4, 5, 9, 2, 3, 7, 1, 2, 3]  # 2 3 was followed by 7 last, 1 2 3 by 4
    assert block_of(fresh(), text, length=3, params=GREEDY).tokens.tolist() == [[4, 5, 9]]
    assert paths(tree_of(fresh(), text, num_nodes=2, max_depth=2)) == [(4,), (4, 5)]


def test_a_tree_has_the_frequent_and_then_the_latest_first() -> None:
    text = [1, 4, 1, 5, 1, 6, 1, 5, 9, 1]  # 1 was followed by 4 once, 5 twice, 6 once and later than 4
    assert paths(tree_of(fresh(), text, max_depth=1)) == [(5,), (6,), (4,)]


def test_shorter_runs_give_the_other_branches_of_a_tree() -> None:
    text = [1, 2, 3, 4, 5, 9, 2, 3, 7, 1, 2, 3]
    assert {(4,), (7,)} <= set(paths(tree_of(fresh(), text)))


def test_noise_says_which_of_the_equal_come_first() -> None:
    text = [1, *(token for other in range(2, V) for token in (other, 1))]
    firsts = {int(fresh().draft_tree(text, num_nodes=1, max_depth=1, params=WARM, seed=seed).tokens[0]) for seed in range(12)}
    assert len(firsts) > 3


def test_where_nothing_repeats_nothing_is_drafted() -> None:
    for text in ([1], [1, 2, 3], [1, 1, 2]):
        assert block_of(fresh(), text).length == 0
        assert len(tree_of(fresh(), text).tokens) == 0


@given(texts)
def test_a_text_whose_last_token_came_before_always_has_a_full_block(text: list[int]) -> None:
    block = block_of(fresh(), [*text, text[0]], length=20)
    assert block.tokens.shape == (3, 20)
    assert set(block.tokens.ravel().tolist()) <= set(text)


def test_rows_are_drawn_from_the_counts_that_are_sent() -> None:
    text = [1, 4, 1, 5, 1, 5, 1, 5, 1]
    block = block_of(fresh(), text, num_rows=400, length=1)
    assert block.laws.ids.tolist() == [[4, 5]]
    assert block.laws.probs[0, 1] > 0.5  # 4 and then 1 was the end once; 5 follows more often
    assert abs((block.tokens == 5).mean() - block.laws.probs[0, 1]) < 0.1


@given(st.lists(st.tuples(texts, st.integers(0, 30)), min_size=1, max_size=5))
def test_no_history_changes_a_draft(calls: list[tuple[list[int], int]]) -> None:
    drafter, text = fresh(), [0]
    for new, num_kept in calls:
        text = [*text[: max(num_kept, 1)], *new]
        for params in (GREEDY, WARM):
            one, other = (tree_of(each, text, params=params) for each in (drafter, fresh()))
            assert paths(one) == paths(other)
            mine, theirs = (block_of(each, text, params=params) for each in (drafter, fresh()))
            np.testing.assert_array_equal(mine.tokens, theirs.tokens)
            np.testing.assert_array_equal(mine.laws.counts, theirs.laws.counts)


@given(texts, texts, st.integers(1, MAX_ORDER))
def test_counts_are_those_of_every_run_in_the_text(text: list[int], path: list[int], least_order: int) -> None:
    counts = NgramCounts()
    for length in range(1, len(text) + 1):
        counts.read(np.array(text[:length]))
    end = [*text, *path]
    followed = {
        n: Counter(text[i] for i in range(n, len(text)) if text[i - n : i] == end[-n:]) for n in range(1, min(MAX_ORDER, len(end)) + 1)
    }
    longest = max((n for n, found in followed.items() if found and n >= least_order), default=0)
    assert counts.counts_after(path, least_order) == dict(followed.get(longest, {}))
    law = counts.law_after(path)
    assert set(law) == {token for found in followed.values() for token in found}
    assert sum(law.values()) <= 1.0 + 1e-12


def test_a_text_that_goes_on_is_read_from_where_it_went_on() -> None:
    counts = NgramCounts()
    counts.read(np.array([1, 2, 1, 2]))
    kept = counts._next_of
    counts.read(np.array([1, 2, 1, 2, 1]))
    assert counts._next_of is kept
    assert counts.counts_after([], 1) == {2: 1}  # after 2 1
    assert counts.counts_after([3, 1], 1) == {2: 2}
    counts.read(np.array([1, 3, 1]))
    assert counts._next_of is not kept
    assert counts.counts_after([], 1) == {3: 1}


def test_it_keeps_the_limits_of_a_drafter() -> None:
    drafter: Drafter = fresh()
    assert (drafter.vocab_size, drafter.max_positions, drafter.support_size) == (V, 100, V)
    with pytest.raises(LimitExceeded, match="97 tokens and 4 drafted ones exceed the draft's 100 positions"):
        tree_of(drafter, [1] * 97)
    for text, match in (([], "at least one token"), ([V], "outside the draft's vocabulary")):
        with pytest.raises(InvalidInput, match=match):
            block_of(drafter, text)
    assert block_of(drafter, [1, 1], num_rows=0).length == 0
    assert len(tree_of(drafter, [1, 1], num_nodes=0).tokens) == 0
    assert len(tree_of(drafter, [1] * 96).tokens) == 4
