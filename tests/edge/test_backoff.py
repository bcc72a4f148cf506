"""Waits between tries, with a clock and chance of our own."""

from types import SimpleNamespace

import pytest

from edge import backoff as module
from edge.backoff import Backoff


@pytest.fixture
def world(monkeypatch):
    """`now` is the time, and `chance` what is drawn, from 0 to 1."""
    world = SimpleNamespace(now=1000.0, chance=1.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: world.now))
    monkeypatch.setattr(module, "random", SimpleNamespace(uniform=lambda low, high: low + world.chance * (high - low)))
    return world


def test_waits_double_up_to_the_longest(world):
    backoff = Backoff(first_s=0.1, most_s=3.0)
    assert [backoff.failed() for _ in range(7)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0])


def test_a_wait_may_be_as_short_as_nothing(world):
    world.chance = 0.0
    backoff = Backoff()
    assert [backoff.failed() for _ in range(9)] == [0.0] * 9


def test_waits_are_drawn_from_all_of_their_length():
    drawn = [Backoff(first_s=2.0, most_s=1.0).failed() for _ in range(400)]
    assert all(0.0 <= wait_s <= 1.0 for wait_s in drawn)
    assert min(drawn) < 0.2
    assert max(drawn) > 0.8


def test_patience_ends_so_long_after_the_first_failure(world):
    backoff = Backoff(patience_s=30.0)
    assert backoff.failed() is not None
    world.now += 29.9
    assert backoff.failed() is not None
    world.now += 0.1
    assert backoff.failed() is None


def test_no_wait_is_shorter_than_what_the_other_side_asked_for(world):
    backoff = Backoff(first_s=0.1)
    assert backoff.failed(at_least_s=5.0) == pytest.approx(5.1)
    world.chance = 0.0
    assert backoff.failed(at_least_s=5.0) == 5.0
    assert backoff.failed() == 0.0


def test_what_is_asked_for_is_not_waited_for_beyond_patience(world):
    assert Backoff(patience_s=30.0).failed(at_least_s=31.0) is None


def test_without_patience_the_first_failure_is_the_end(world):
    assert Backoff(patience_s=0.0).failed() is None


def test_success_begins_all_over(world):
    backoff = Backoff(patience_s=30.0, first_s=0.1)
    for _ in range(5):
        backoff.failed()
    world.now += 100.0
    backoff.succeeded()
    assert backoff.failed() == pytest.approx(0.1)
    world.now += 29.0
    assert backoff.failed() == pytest.approx(0.2)


def test_a_thousand_failures_overflow_nothing(world):
    backoff = Backoff(patience_s=float("inf"))
    assert [backoff.failed() for _ in range(2000)][-1] == 3.0
