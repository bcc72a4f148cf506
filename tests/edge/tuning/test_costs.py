"""What things take, by size: medians, straight lines, never falling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.tuning.costs import CostBySize, CostByWay, Recent, upper

measures = st.lists(st.tuples(st.integers(0, 96), st.floats(0.0, 10.0)), min_size=1, max_size=60)


def costs_of(measured):
    costs = CostBySize()
    for size, seconds in measured:
        costs.add(size, seconds)
    return costs


@given(measures)
def test_larger_never_costs_less(measured):
    costs = costs_of(measured)
    told = [costs.at(size) for size in range(130)]
    assert told == sorted(told)
    assert told[0] >= 0.0


def test_nothing_measured_is_said():
    assert not CostBySize()
    with pytest.raises(ValueError, match="nothing was measured"):
        CostBySize().at(3)


def test_of_one_size_alone_others_are_taken_to_cost_the_same():
    costs = costs_of([(8, 0.3)])
    assert costs
    assert (costs.at(0), costs.at(8), costs.at(96)) == (0.3, 0.3, 0.3)


def test_lines_join_the_sizes_and_the_last_goes_on():
    costs = costs_of([(0, 1.0), (8, 2.0), (32, 8.0)])
    assert [costs.at(size) for size in (0, 4, 8, 20, 32, 64)] == [1.0, 1.5, 2.0, 5.0, 8.0, 16.0]


def test_no_draft_and_a_draft_of_one_are_told_apart():
    costs = costs_of([(0, 1.0), (1, 3.0)])
    assert (costs.at(0), costs.at(1)) == (1.0, 3.0)


def test_a_hiccup_is_forgotten_and_a_change_followed():
    costs = costs_of([(8, 1.0)] * 7 + [(8, 50.0)] * 3)
    assert costs.at(8) == 1.0
    costs.add(8, 50.0)
    assert costs.at(8) == 50.0


def test_sizes_of_one_power_of_two_stand_together_at_their_median():
    costs = costs_of([(8, 1.0), (10, 2.0), (15, 9.0), (16, 9.0)])
    assert costs.at(10) == 2.0
    assert costs.at(13) == pytest.approx(5.5)


def test_the_recent_median_follows_the_last_few():
    recent = Recent(3)
    assert not recent
    assert recent.value(7.0) == 7.0
    for value in (1.0, 100.0, 2.0):
        recent.add(value)
    assert recent
    assert recent.value(7.0) == 2.0
    recent.add(100.0)
    assert recent.value(7.0) == 100.0


def test_what_was_slow_long_ago_is_forgotten():
    costs = costs_of([(0, 1.0), (8, 50.0)])
    for _ in range(199):
        assert costs.at(8) == 50.0
        costs.add(0, 1.0)
    costs.add(0, 1.0)
    assert costs.at(8) == 1.0


def test_a_hiccup_in_the_first_measurements_is_no_slope():
    costs = costs_of([(0, 1.0), (8, 50.0), (8, 1.5)])
    assert costs.at(8) == 1.5
    costs.add(8, 2.0)
    assert costs.at(8) == 2.0


def test_a_hiccup_among_small_sizes_says_nothing_of_large_ones():
    costs = CostBySize()
    for size, seconds in ((0, 0.005), (0, 0.005), (0, 0.005), (1, 0.005), (2, 0.02), (3, 0.006)):
        costs.add(size, seconds)
    assert costs.at(32) <= 0.01


def test_one_odd_measurement_lifts_no_larger_sizes():
    costs = costs_of([(4, 12.0)] + [(16, 8.0)] * 7)
    assert costs.at(16) == pytest.approx(8.5)
    assert costs.at(4) == costs.at(16)


def test_what_never_fell_stands_as_it_was_measured():
    costs = costs_of([(8, 1.0), (16, 2.0), (32, 2.0)])
    assert [costs.at(size) for size in (8, 16, 32)] == [1.0, 2.0, 2.0]


def test_a_draft_that_nobody_waits_for_stands_at_its_upper_quartile():
    """Most go on with the last tree, and take next to nothing; one hiccup is none of them."""
    costs = CostByWay(not_awaited=upper)
    for seconds in (1.0, 1.0, 8.0, 1.0, 50.0, 9.0, 1.0):
        costs.add(16, seconds, is_awaited=False)
        costs.add(16, seconds, is_awaited=True)
    assert costs.at(16, is_awaited=False) == 9.0
    assert costs.at(16, is_awaited=True) == 1.0


def test_far_beyond_what_was_measured_nothing_is_thought_dear():
    costs = CostBySize()
    for size in (0, 8, 8, 8):
        costs.add(size, 0.005 + 0.001 * size)
    assert costs.at(16) == pytest.approx(0.021)
    assert costs.at(96) == costs.at(16)


def test_what_was_measured_in_one_way_stands_for_the_other_in_proportion():
    costs = CostByWay(untried=0.5)
    assert not costs
    for _ in range(3):
        costs.add(8, 2.0, is_awaited=False)
        costs.add(32, 6.0, is_awaited=False)
    assert costs
    assert [costs.at(size, is_awaited=False) for size in (8, 32)] == [2.0, 6.0]
    assert [costs.at(size, is_awaited=True) for size in (8, 32)] == [1.0, 3.0]  # untried
    costs.add(8, 1.5, is_awaited=True)
    assert [costs.at(size, is_awaited=True) for size in (8, 32)] == [1.5, 4.5]
    assert costs.at(32, is_awaited=False) == 6.0
    costs.add(32, 3.0, is_awaited=True)
    assert costs.at(32, is_awaited=True) == 3.0


def test_what_costs_nothing_in_one_way_says_nothing_of_the_other():
    costs = CostByWay()
    costs.add(4, 0.0, is_awaited=False)
    costs.add(4, 1.0, is_awaited=True)
    assert costs.at(16, is_awaited=True) == 1.0


def test_a_hiccup_at_the_first_try_of_a_way_is_not_the_end_of_it():
    costs = CostByWay()
    for _ in range(5):
        costs.add(8, 6.0, is_awaited=False)
    costs.add(8, 15.0, is_awaited=True)
    assert costs.at(8, is_awaited=True) == 6.0  # so that it is tried again
    for _ in range(2):
        costs.add(8, 15.0, is_awaited=True)
    assert costs.at(8, is_awaited=True) == 15.0  # it was none


def test_a_way_not_gone_for_long_is_forgotten():
    costs = CostByWay(untried=0.5)
    for _ in range(3):
        costs.add(8, 15.0, is_awaited=True)
    for _ in range(199):
        costs.add(8, 6.0, is_awaited=False)
    assert costs.at(8, is_awaited=True) == 15.0
    costs.add(8, 6.0, is_awaited=False)
    assert costs.at(8, is_awaited=True) == 3.0
