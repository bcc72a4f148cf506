"""Replicas are added while work waits, taken away after long rest, and otherwise left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.errors import InvalidInput
from cluster.scaling import Bounds, Range, Reading, Scaling

BOUNDS = Bounds(num_readings=3, cooldown_s=10.0)
BUSY = {"queue_s": 1.0, "occupancy": 0.2}
IDLE = {"queue_s": 0.0, "occupancy": 0.1}
BETWEEN = {"queue_s": 0.2, "occupancy": 0.5}


class Model:
    """Does at once what scaling wants; what is added loads for so many readings."""

    def __init__(self, within, *, num_loads=0):
        self.scaling, self.num_loads = Scaling(within, BOUNDS), num_loads
        self.num_serving, self.loading, self.now = within.least, [], 0.0

    def read(self, *, queue_s, occupancy):
        self.now += 1.0
        self.loading = [left - 1 for left in self.loading]
        self.num_serving += self.loading.count(0)
        self.loading = [left for left in self.loading if left]
        wanted = self.scaling.wanted(Reading(self.num_serving, len(self.loading), queue_s, occupancy), self.now)
        change = wanted - self.num_serving - len(self.loading)
        if change > 0 and self.num_loads:
            self.loading += [self.num_loads] * change
        else:
            self.num_serving += change
        return self.num_serving + len(self.loading)


readings = st.lists(st.sampled_from([BUSY, IDLE, BETWEEN, {"queue_s": 0.0, "occupancy": 0.95}]), max_size=60)


@given(readings, st.integers(1, 3), st.integers(0, 3), st.integers(0, 4))
def test_there_are_never_fewer_or_more_than_allowed_and_one_change_a_reading(given, least, more, num_loads):
    model, before = Model(Range(least, least + more), num_loads=num_loads), least
    for reading in given:
        num = model.read(**reading)
        assert least <= num <= least + more
        assert abs(num - before) <= 1
        before = num


def test_one_is_added_after_some_readings_in_a_row_and_the_next_only_once_it_serves():
    model = Model(Range(1, 4), num_loads=5)
    assert [model.read(**BUSY) for _ in range(12)] == [1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3]


def test_a_full_memory_adds_one_too():
    model = Model(Range(1, 4))
    assert [model.read(queue_s=0.0, occupancy=0.9) for _ in range(3)] == [1, 1, 2]


def test_a_peak_shorter_than_that_adds_none():
    model = Model(Range(1, 4))
    assert {model.read(**reading) for reading in [BUSY, BUSY, BETWEEN] * 20} == {1}


def test_one_is_taken_away_after_a_rest_and_the_next_after_another():
    model = Model(Range(1, 4))
    model.num_serving = 3
    nums = [model.read(**IDLE) for _ in range(30)]
    assert nums[9:12] == [3, 2, 2]
    assert nums[21:] == [1] * 9


def test_a_rest_that_is_broken_off_begins_anew_and_between_the_bounds_nothing_changes():
    model = Model(Range(1, 4))
    model.num_serving = 3
    assert {model.read(**reading) for reading in ([IDLE] * 8 + [BETWEEN]) * 9} == {3}


def test_none_is_taken_away_where_the_others_could_not_hold_what_it_holds():
    model = Model(Range(1, 2))
    model.num_serving = 2
    assert {model.read(queue_s=0.0, occupancy=0.3) for _ in range(30)} == {2}


def test_what_died_is_replaced_at_once():
    assert Scaling(Range(3, 3), BOUNDS).wanted(Reading(1, 0, 0.0, 0.0), 0.0) == 3


@pytest.mark.parametrize("wrong", ["0", "two", "3:2", "0:2", "1:", ":2", "-1", "1:2:3", ""])
def test_a_range_is_a_number_or_two(wrong):
    with pytest.raises(InvalidInput, match="1:4"):
        Range.parse(wrong)
    assert (str(Range.parse("2")), str(Range.parse("1:4"))) == ("2", "1:4")
