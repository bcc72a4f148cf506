"""What is remembered of a text, against what is known of every position of it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.coupled import CoupledTree
from edge.tuning.foretold import Foretold
from edge.tuning.recent_text import RecentText

SIZES = (4, 8, 16)


def followed(base, num_nodes, places, *, is_open=False):
    """A tree whose nodes at `places` came true, one after the other."""
    tokens, parents = np.arange(10, 10 + num_nodes), np.full(num_nodes, -1)
    for above, place in zip((-1, *places), places, strict=False):
        tokens[place], parents[place] = 1, above
    foretold = Foretold(CoupledTree(base, tokens, parents))
    foretold.follow([1] * len(places) + [2] * (not is_open))
    assert foretold.places == list(places)
    return foretold


def text_of(*drafts):
    text = RecentText()
    for draft in drafts:
        text.add(draft)
    return text


def test_a_tree_tells_of_the_smaller_ones_and_the_next_base_ends_its_say():
    text = text_of(followed(10, 16, [0, 2, 5]), followed(14, 16, [7]), followed(16, 16, []))
    assert text.reach((4, 16)) == {4: [2, 2, 1, 2, 0, 0, 0], 16: [3, 3, 2, 2, 1, 1, 0]}
    assert text.accepted((4, 16)) == {4: pytest.approx(2 / 3), 16: pytest.approx(4 / 3)}


def test_drafts_may_end_in_any_order():
    drafts = [followed(10, 16, [0, 2, 5]), followed(14, 16, [7]), followed(16, 16, [])]
    assert text_of(*drafts).reach(SIZES) == text_of(*drafts[::-1]).reach(SIZES)


def test_where_none_was_drafted_the_last_one_is_typical_but_not_for_long():
    text = text_of(followed(0, 16, [0]), followed(6, 16, []))
    assert text.reach((16,)) == {16: [1, 1, 1, 1, 1, 1, 0]}
    assert len(text_of(followed(0, 16, []), followed(500, 16, [])).reach((16,))[16]) == 17


def test_a_text_ends_with_what_was_followed_of_it():
    text = text_of(followed(0, 16, [0, 1, 2], is_open=True))
    text.begin()
    text.add(followed(0, 16, []))
    assert text.reach((16,)) == {16: [3, 3, 2, 0]}


def test_what_larger_trees_lead_to_is_learnt_from_those_that_were_drafted():
    text = text_of(followed(0, 16, [0, 9, 12]), followed(4, 4, [1]), followed(6, 4, []))
    assert text.reach((4, 16, 32)) == {4: [1, 1, 1, 1, 1, 1, 0], 16: [3, 3, 2, 2, 3, 3, 2]}


def test_of_sizes_never_drafted_nothing_is_said():
    assert RecentText().reach(SIZES) == RecentText().accepted(SIZES) == {}
    assert set(text_of(followed(0, 8, [])).reach(SIZES)) == {4, 8}
    assert text_of(followed(0, 0, [])).num_drafts == 0


@given(st.lists(st.lists(st.integers(0, 15), max_size=8, unique=True), max_size=300))
def test_larger_trees_reach_as_far_everywhere_and_the_old_is_forgotten(outcomes):
    text, base = RecentText(), 0
    for places in outcomes:
        text.add(followed(base, 16, sorted(places)))
        base += len(places) + 1
    reach = text.reach(SIZES)
    assert len({len(each) for each in reach.values()}) <= 1
    assert text.num_drafts <= 96
    for smaller, larger in pairwise(SIZES):
        if larger in reach:
            assert len(reach[larger]) <= 256
            assert text.accepted(SIZES)[smaller] <= text.accepted(SIZES)[larger]
