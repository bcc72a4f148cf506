"""The newest tree counts, from where the text then ends; what it does not draft costs a wait, and nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.coupled import empty_tree
from cactus_core.errors import InvalidInput
from cactus_core.session import Hint
from cloud.hints import Hints
from tests.cloud.trees import nodes, tree

PROMPT = [7, 7]


def hints(*, longest=100, num_positions=1000, wait_s=math.inf, now=0.0):
    return Hints(len(PROMPT), longest, num_positions, wait_s, now)


def test_a_text_without_hints_is_due_when_its_wait_is_over():
    assert hints(now=3.0).due(PROMPT) == math.inf
    of_text = hints(wait_s=0.5, now=3.0)
    assert of_text.due(PROMPT) == 3.5
    of_text.decided(4.0)
    assert of_text.due([*PROMPT, 1]) == 4.5
    assert (of_text.round, of_text.is_in_gap([*PROMPT, 1]), of_text.present_until) == (0, True, -math.inf)


def test_a_tree_of_what_follows_is_due_at_once():
    of_text = hints()
    assert of_text.take(Hint(4, tree(2, (1, 2), (3,))), 2, 5.0)
    assert (of_text.due(PROMPT), of_text.round, of_text.is_in_gap(PROMPT)) == (5.0, 4, False)
    assert nodes(of_text.tree(PROMPT)) == [(1,), (3,), (1, 2)]


def test_an_empty_tree_at_the_texts_end_asks_for_a_token_once():
    of_text = hints()
    of_text.take(Hint(0, empty_tree(2)), 2, 5.0)
    assert (of_text.due(PROMPT), of_text.is_in_gap(PROMPT)) == (5.0, False)
    of_text.decided(6.0)
    assert of_text.due([*PROMPT, 1]) == math.inf


def test_an_empty_tree_that_comes_too_late_asks_for_nothing():
    of_text = hints()
    of_text.take(Hint(0, empty_tree(2), 0.25), 3, 5.0)
    assert of_text.due([*PROMPT, 1]) == 0.25


def test_what_was_emitted_meanwhile_is_followed_through_the_tree():
    of_text = hints()
    of_text.take(Hint(0, tree(2, (1, 2, 3), (1, 4), (5,))), 3, 5.0)
    assert nodes(of_text.tree([*PROMPT, 1])) == [(2,), (4,), (2, 3)]
    of_text.decided(8.0)
    assert of_text.due([*PROMPT, 1, 2]) == 8.0
    assert nodes(of_text.tree([*PROMPT, 1, 2])) == [(3,)]
    assert nodes(of_text.tree([*PROMPT, 1, 2, 5])) == []


def test_only_the_newest_hint_counts_whenever_it_comes():
    of_text = hints()
    assert of_text.take(Hint(3, tree(2, (1,)), 0.5), 2, 5.0)
    assert not of_text.take(Hint(2, tree(2, (2,)), 0.1), 2, 6.0)
    assert not of_text.take(Hint(3, tree(2, (2,)), 0.1), 2, 6.0)
    assert (nodes(of_text.tree(PROMPT)), of_text.round, of_text.due([*PROMPT, 4])) == ([(1,)], 3, 0.5)
    assert of_text.take(Hint(4, tree(2, (2,)), 0.1), 2, 6.0)
    assert (nodes(of_text.tree(PROMPT)), of_text.round, of_text.due(PROMPT)) == ([(2,)], 4, 6.0)


@pytest.mark.parametrize("base", [0, 1, 4, 50])
def test_a_tree_outside_what_was_emitted_is_refused_and_changes_nothing(base):
    of_text = hints()
    with pytest.raises(InvalidInput, match="goes from 2 to 3"):
        of_text.take(Hint(0, tree(base, (1,))), 3, 5.0)
    assert (of_text.due([*PROMPT, 1]), of_text.round) == (math.inf, 0)


def test_a_tree_ends_where_no_more_tokens_may_come_and_where_there_is_no_room():
    of_text = hints(longest=6)
    of_text.take(Hint(0, tree(2, (1, 2, 3, 4, 5), (6,), (6, 7, 8, 9, 1))), 2, 0.0)
    assert max(map(len, nodes(of_text.tree(PROMPT)))) == 3  # and the target's own is the fourth
    last = hints(longest=3)
    last.take(Hint(0, tree(2, (1,))), 2, 0.0)
    assert nodes(last.tree(PROMPT)) == []
    small = hints(num_positions=5)
    small.take(Hint(0, tree(2, (1, 2), (3, 4), (5,))), 2, 0.0)
    assert nodes(small.tree(PROMPT)) == [(1,), (3,), (5,)]


paths = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple), max_size=5)
events = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.lists(st.integers(0, 2), min_size=1, max_size=3)),
        st.tuples(st.just("hint"), st.integers(0, 8), st.floats(0, 1), paths, st.sampled_from([0.0, 0.5, math.inf])),
    ),
    max_size=20,
)


@given(events, st.integers(3, 12))
def test_any_order_of_hints_and_tokens_leaves_what_the_newest_still_drafts(happened, longest):
    """Against the plain words: the newest tree's paths that begin with what was emitted since, less that."""
    of_text, text, decided, newest = hints(longest=longest, wait_s=0.5), list(PROMPT), 0.0, None
    for now, event in enumerate(happened, 1):
        if event[0] == "text":
            text += event[1]
            if len(text) >= longest:
                return
            decided = float(now)
            of_text.decided(decided)
        else:
            _, number, where, drafted, wait_s = event
            base = len(PROMPT) + round(where * (len(text) - len(PROMPT)))
            hint = Hint(number, tree(base, *drafted), wait_s)
            is_newest = newest is None or number > newest[0].round
            assert of_text.take(hint, len(text), float(now)) == is_newest
            if is_newest:
                newest = hint, float(now)
        if newest is None:
            assert of_text.due(text) == decided + 0.5
            continue
        hint, heard = newest
        since = tuple(text[hint.tree.base :])
        left = {path[len(since) :] for path in nodes(hint.tree) if len(path) > len(since) and path[: len(since)] == since}
        fitting = {path for path in left if len(text) + len(path) < longest}
        assert set(nodes(of_text.tree(text))) == fitting
        assert len(of_text.tree(text).tokens) == len(fitting)
        assert of_text.tree(text).base == len(text)
        if fitting or hint.tree.base == len(text):
            assert of_text.due(text) == max(heard, decided)
        else:
            assert of_text.due(text) == decided + hint.wait_s
        assert of_text.round == hint.round
