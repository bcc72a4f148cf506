"""Replays against a cloud, a link and a drafter in virtual time that do what is replayed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.virtual_stream import World, run_in_virtual_time
from edge.tuning.plan import DEEPEST, TreePlan
from edge.tuning.replay import streaming, waiting
from edge.tuning.tree_tuner import TreeTuner

STEP_S, NUM_NODES = 0.03, 32


def reach_of(world, num_tokens):
    """Of each position, by the world's own rule."""
    return [sum(place < NUM_NODES for place in path) for path in world.true_paths(num_tokens)]


def world(round_trip_s, draft_s, mean_q, seed):
    return World(lambda now: round_trip_s, lambda num_nodes: STEP_S, lambda num_nodes: draft_s, mean_q, seed)


@pytest.mark.parametrize("mean_q", [0.4, 0.65, 0.8])
@pytest.mark.parametrize(("round_trip_s", "late"), [(0.001, 1), (0.041, 2), (0.099, 4)])
def test_streaming_is_what_a_drafter_quicker_than_a_step_brings(round_trip_s, late, mean_q):
    """The drafter begins as a decision comes, and its tree is read by the first step that begins after it came."""
    asked = world(round_trip_s, 0.01, mean_q, 3)
    made = run_in_virtual_time(asked, TreeTuner(fixed=TreePlan(NUM_NODES, DEEPEST, 0.0)), 800)
    assert streaming(reach_of(asked, 800), late, 1).num_steps == pytest.approx(made.num_steps, rel=0.01)


@pytest.mark.parametrize("mean_q", [0.4, 0.65, 0.8])
@pytest.mark.parametrize("round_trip_s", [0.001, 0.041])
def test_waiting_is_what_a_cloud_that_waits_brings(round_trip_s, mean_q):
    asked = world(round_trip_s, 0.01, mean_q, 3)
    made = run_in_virtual_time(asked, TreeTuner(fixed=TreePlan(NUM_NODES, DEEPEST, math.inf)), 800)
    assert waiting(reach_of(asked, 800)).num_steps == pytest.approx(made.num_steps, rel=0.05)  # the first trees come late


def test_a_tree_half_of_which_came_counts_as_a_quarter():
    """Every tree leads a token far, and is a step late: when it is read, that token has come."""
    replayed = streaming([1] * 4000, 1, 1)
    assert replayed.tokens_per_step == pytest.approx(1.0, rel=0.01)
    assert replayed.drafted_per_step == pytest.approx(0.25, rel=0.01)


reaches = st.lists(st.integers(0, 12), min_size=1, max_size=120)


@given(reaches, st.floats(1.0, 6.0), st.integers(1, 3))
def test_a_text_takes_between_one_step_a_token_and_what_waiting_takes(reach, late, every):
    replayed = streaming(reach, late, every)
    assert 0.0 <= replayed.num_drafted <= replayed.num_steps <= len(reach)
    assert 1.0 <= waiting(reach).tokens_per_step <= 1.0 + max(reach)


@given(st.integers(0, 12), st.integers(1, 5), st.integers(20, 80))
def test_where_every_tree_leads_as_far_it_leads_as_much_less_as_it_is_late(length, late, num_tokens):
    """A step brings t tokens where t = 1 + max(0, length - late * t), once trees have come."""
    steady = max(1.0, (1 + length) / (1 + late))
    replayed = streaming([length] * (num_tokens * 20), late, 1)
    assert replayed.tokens_per_step == pytest.approx(steady, rel=0.35)


def test_nothing_that_comes_true_costs_a_step_a_token():
    assert streaming([0] * 40, 1.5, 1).num_steps == waiting([0] * 40).num_steps == 40


@given(reaches, st.integers(0, 119), st.integers(1, 4))
def test_from_a_later_position_on_fewer_steps_count(reach, first, late):
    first = min(first, len(reach) - 1)
    assert waiting(reach, first).num_steps <= waiting(reach).num_steps
    later = streaming(reach, late, 1, first)
    assert later.num_tokens == len(reach) - first
    assert later.num_steps <= streaming(reach, late, 1).num_steps


def test_of_no_text_nothing_is_told():
    assert waiting([]).tokens_per_step == streaming([], 1.0, 1).tokens_per_step == 0.0
