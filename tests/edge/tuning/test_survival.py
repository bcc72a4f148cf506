"""Survival curves against plain dictionaries, a plain Kaplan-Meier, and probabilities that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.coupled import CoupledTree, empty_tree
from edge.tuning.foretold import Foretold
from edge.tuning.survival import Survival

SIZES = (2, 4, 8, 16)


@st.composite
def trees(draw):
    """A tree over three tokens, and the place of each path in it."""
    places = {(): -1}
    for _ in range(draw(st.integers(0, 14))):
        path = (*draw(st.sampled_from(list(places))), draw(st.integers(0, 2)))
        places.setdefault(path, len(places) - 1)
    nodes = list(places)[1:]
    tokens, parents = ([path[-1] for path in nodes], [places[path[:-1]] for path in nodes])
    return CoupledTree(5, np.array(tokens, dtype=np.int64), np.array(parents, dtype=np.int64)), places


@given(trees(), st.lists(st.lists(st.integers(0, 2), max_size=3), max_size=6))
def test_a_tree_is_followed_along_the_text_as_its_paths_say(tree_and_places, pieces):
    tree, places = tree_and_places
    foretold, text = Foretold(tree), []
    for piece in pieces:
        foretold.follow(piece)
        text += piece
    stands = [places[tuple(text[:depth])] for depth in range(1, 1 + len(text)) if tuple(text[:depth]) in places]
    assert foretold.places == stands
    assert foretold.is_over == (len(stands) < len(text))
    assert foretold.num_nodes == len(tree.tokens)


@st.composite
def outcomes(draw):
    """What a drafter saw: ascending places below the number drafted, and whether nothing contradicted the next."""
    num_drafted = draw(st.sampled_from((1, 2, 3, 4, 8, 16)))
    places = draw(st.sets(st.integers(0, num_drafted - 1)))
    return sorted(places), num_drafted, draw(st.booleans())


def survival_of(seen):
    survival = Survival()
    for places, num_drafted, is_open in seen:
        survival.add(places, num_drafted, is_open=is_open)
    return survival


@given(st.lists(outcomes(), max_size=80))
def test_curves_fall_with_depth_and_rise_with_size(seen):
    curves = survival_of(seen).curves(SIZES)
    for curve in curves.values():
        assert ((curve >= 0) & (curve <= 1)).all()
        assert (np.diff(curve) <= 0).all()
    for small, large in zip(curves.values(), list(curves.values())[1:], strict=False):
        assert (small <= large).all()


@given(st.lists(outcomes(), min_size=1, max_size=80))
def test_nothing_is_said_of_sizes_that_were_never_tried(seen):
    survival = survival_of(seen)
    assert survival.largest == max(num_drafted for _, num_drafted, _ in seen[-64:])
    assert set(survival.curves(SIZES)) == {size for size in SIZES if size <= survival.largest}


def kaplan_meier(spans):
    """Of (length, is_censored): P(more than d) for d = 0, 1, ... one factor a depth, as if two more outcomes had stood 6 times in 10."""
    curve, left = [], 1.0
    for depth in range(1, 1 + max(length for length, _ in spans)):
        stood = sum(length >= depth for length, _ in spans)
        fell = sum(length == depth - 1 and not is_censored for length, is_censored in spans)
        left *= (stood + 1.2) / (stood + fell + 2.0)
        curve.append(left)
    return curve


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=64))
def test_censored_outcomes_count_only_as_far_as_they_went(spans):
    seen = [(range(length), 8, is_open) for length, is_open in spans]
    curve = survival_of(seen).curves((8,))[8]
    expected = kaplan_meier(spans)
    np.testing.assert_allclose(curve[: len(expected)], expected, rtol=1e-12)
    assert not curve[len(expected) :].any()


def test_a_cut_off_outcome_says_less_against_what_follows_than_one_that_failed_there():
    cut_off, failed = (survival_of([([0, 1, 2], 3, True)] * 4 + [([0], 3, is_open)] * 8).curves((2,))[2] for is_open in (True, False))
    assert cut_off[0] == failed[0]
    assert cut_off[1] > failed[1]


def test_a_smaller_trees_curve_comes_from_a_larger_ones_outcomes():
    large = [([0, 3, 9], 16, False), ([1], 16, False), ([0, 1, 2, 3], 16, False), ([], 16, False)] * 4
    small = [([place for place in places if place < 4], 4, is_open) for places, _, is_open in large]
    np.testing.assert_array_equal(survival_of(large).curves((4,))[4], survival_of(small).curves((4,))[4])


def test_what_a_larger_tree_adds_is_told_by_the_outcomes_that_know_both():
    ordinary, large = [([0], 4, False)] * 30, [([0, 5], 8, False)] * 9
    curves = survival_of(ordinary + large).curves((4, 8))
    np.testing.assert_allclose((curves[8] - curves[4])[:3], [0.0, 0.9, 0.0])


def test_only_the_newest_outcomes_are_remembered():
    survival = survival_of([(range(8), 8, False)] * 100 + [([], 4, False)] * 64)
    assert (survival.num_outcomes, survival.largest) == (64, 4)
    assert survival.curves((4,))[4].sum() < 0.05


def test_an_empty_tree_is_no_outcome():
    foretold = Foretold(empty_tree(3))
    foretold.follow([1])
    survival = survival_of([(foretold.places, foretold.num_nodes, True)])
    assert (survival.num_outcomes, survival.curves(SIZES)) == (0, {})


@pytest.mark.parametrize(("odds", "within"), [((0.9, 0.8, 0.5, 0.2), 0.03), ((0.5,) * 4, 0.03), ((0.1,) * 4, 0.03), ((0.97,) * 4, 0.06)])
def test_curves_come_to_the_probabilities_that_outcomes_are_drawn_with(odds, within):
    """On average over windows of 64, a third of them cut off at random: that biases nothing, and what is assumed beforehand little, most
    where nearly everything comes true.
    """
    rng = np.random.default_rng(0)
    curves = []
    for _ in range(60):
        survival = Survival()
        for _ in range(64):
            length = int(np.cumprod(rng.random(4) < odds).sum())
            cut = int(rng.integers(0, 4)) if rng.random() < 1 / 3 else 4
            survival.add(range(min(length, cut)), 4, is_open=min(length, cut) == cut)
        curves.append(survival.curves((4,))[4][:4])
    np.testing.assert_allclose(np.mean(curves, 0), np.cumprod(odds), atol=within)
