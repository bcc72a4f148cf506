"""A link that stalls is later by as long as it stood still, and by no more."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.errors import InvalidInput
from cluster.link_clock import LinkClock
from tests.cluster.hand_clock import HandClock


def test_a_clock_that_stalls_stands_still_and_then_goes_on():
    real = HandClock()
    clock = LinkClock(real)
    shown = []
    for real.seconds in (1.0, 2.0, 3.0, 4.0, 5.0):
        if real.seconds == 2.0:
            clock.stall(1.5)
        shown.append((clock.now(), clock.is_stalled))
    assert shown == [(1.0, False), (2.0, True), (2.0, True), (2.5, False), (3.5, False)]
    assert clock.real(3.5) == 5.0


def test_of_two_stalls_at_once_the_one_that_ends_later_counts():
    real = HandClock()
    clock = LinkClock(real)
    clock.stall(2.0)
    real.seconds = 1.0
    clock.stall(0.5)
    assert clock.stalled_until == 2.0
    clock.stall(3.0)
    assert clock.stalled_until == 4.0
    real.seconds = 5.0
    assert clock.now() == 1.0


# Multiples of 1/64 add up without rounding.
_SECONDS = st.integers(0, 1 << 12).map(lambda n: n / 64)


@given(st.lists(st.tuples(_SECONDS, _SECONDS), max_size=20))
def test_the_clock_never_goes_back_and_knows_when_it_will_show_a_moment(steps):
    real, last = HandClock(), 0.0
    clock = LinkClock(real)
    for wait, stall in steps:
        real.seconds += wait
        assert last <= clock.now() <= last + wait
        last = clock.now()
        clock.stall(stall)
        assert clock.now() == last
        moment = real.seconds
        real.seconds = clock.real(last + 1.0)
        assert clock.now() == last + 1.0
        real.seconds = moment


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_a_stall_must_end(seconds):
    with pytest.raises(InvalidInput, match="stall"):
        LinkClock(HandClock()).stall(seconds)
