"""One direction of a link, by a clock that is turned by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.link_clock import LinkClock
from cluster.link_profile import PROFILES, LinkProfile
from cluster.shaper import Flow, Shaper
from tests.cluster.hand_clock import HandClock

THIN = LinkProfile("thin", round_trip_s=0.2, up_bits_per_s=8000.0)  # a byte takes a millisecond
PROFILE = st.sampled_from([*PROFILES.values(), THIN, LinkProfile("lossy", round_trip_s=0.05, jitter_s=0.025, loss=0.3)])


def shaper_of(profile, clock, seed=0):
    return Shaper(profile, profile.up_bits_per_s, np.random.default_rng(seed), clock)


def test_bytes_take_their_time_on_the_wire_and_half_a_round_trip():
    clock = HandClock()
    shaper = shaper_of(THIN, clock)
    assert shaper.due(50) == pytest.approx(0.05 + 0.1)
    clock.seconds = 1.0
    assert shaper.due(50) == pytest.approx(1.0 + 0.05 + 0.1)


def test_the_bandwidth_is_shared_by_all_connections():
    shaper = shaper_of(THIN, HandClock())
    one, other = Flow(shaper), Flow(shaper)
    one.push(b"x" * 1000)
    other.push(b"y" * 10)
    assert one.next_due == pytest.approx(1.0 + 0.1)
    assert other.next_due == pytest.approx(1.0 + 0.01 + 0.1)


def test_a_cut_link_has_no_queue():
    shaper = shaper_of(THIN, HandClock())
    shaper.due(1000)
    shaper.empty()
    assert shaper.due(10) == pytest.approx(0.01 + 0.1)


def test_a_perfect_link_delivers_at_once():
    clock = HandClock()
    flow = Flow(shaper_of(PROFILES["perfect"], clock))
    clock.seconds = 3.0
    flow.push(b"x" * 1_000_000)
    assert flow.take(3.0) == b"x" * 1_000_000


def test_jitter_stays_within_its_bounds_and_is_the_seeds_own():
    profile = LinkProfile("shaky", round_trip_s=0.2, jitter_s=0.03)
    dues = [[shaper.due(1) for _ in range(500)] for shaper in (shaper_of(profile, HandClock(), seed) for seed in (1, 1, 2))]
    assert all(0.07 <= due <= 0.13 for due in dues[0])
    assert min(dues[0]) < 0.071
    assert max(dues[0]) > 0.129
    assert dues[0] == dues[1] != dues[2]


def test_a_lost_packet_comes_later_by_its_retransmission_and_holds_up_its_connection_alone():
    clock = HandClock()
    shaper = shaper_of(LinkProfile("lossy", round_trip_s=0.2, loss=1.0, retransmit_s=0.5), clock)
    held, free = Flow(shaper), Flow(shaper)
    held.push(b"lost")
    shaper.follow(LinkProfile("sound", round_trip_s=0.2), math.inf)
    held.push(b"held")
    free.push(b"free")
    assert held.take(0.5) == b""
    assert free.take(0.1) == b"free"
    assert held.take(0.6) == b"lostheld"


def test_every_packet_of_a_piece_may_be_lost():
    profile = LinkProfile("lossy", loss=0.1, retransmit_s=1.0)
    for num_packets in (1, 5):
        shaper = shaper_of(profile, HandClock())
        num_late = sum(shaper.due(1460 * num_packets) > 0.5 for _ in range(4000))
        expected = 4000 * (1 - 0.9**num_packets)
        assert abs(num_late - expected) < 5 * math.sqrt(expected)


def test_long_data_comes_bit_by_bit():
    flow = Flow(shaper_of(PROFILES["near"], HandClock()))  # 12.5 kB in a millisecond
    flow.push(bytes(125_000))
    flow.push(bytes(10))
    came = [len(flow.take(PROFILES["near"].one_way_s + milliseconds / 1e3)) for milliseconds in range(1, 12)]
    assert sum(came) == 125_010
    assert max(came) <= 2 * 12_500


def test_a_faster_link_does_not_let_bytes_overtake():
    flow = Flow(shaper := shaper_of(PROFILES["far"], HandClock()))
    flow.push(b"slow")
    due = flow.next_due
    shaper.follow(PROFILES["perfect"], math.inf)
    flow.push(b"fast")
    assert flow.take(due - 1e-6) == b""
    assert flow.take(due) == b"slowfast"


def test_the_end_comes_after_all_bytes_and_no_sooner_than_a_byte():
    clock = HandClock()
    flow = Flow(shaper_of(THIN, clock))
    flow.push(b"x" * 1000)
    flow.end()
    assert not flow.has_ended(2.0)  # not while its bytes are still to be taken
    flow.take(2.0)
    assert [flow.has_ended(until) for until in (1.09, 1.11)] == [False, True]
    silent = Flow(shaper_of(THIN, clock))
    silent.end()
    assert silent.next_due == pytest.approx(0.1)
    assert [silent.has_ended(until) for until in (0.09, 0.11)] == [False, True]


def test_dropped_bytes_are_no_longer_under_way():
    shaper = shaper_of(THIN, HandClock())
    dropped, kept = Flow(shaper), Flow(shaper)
    dropped.push(b"x" * 100)
    kept.push(b"y" * 10)
    dropped.drop()
    assert (dropped.num_bytes, kept.num_bytes, shaper.num_bytes) == (0, 10, 10)
    assert dropped.take(math.inf) == b""


PUSH = st.tuples(st.just("push"), st.integers(0, 2), st.integers(1, 5000))
TAKE = st.tuples(st.just("take"), st.integers(0, 2), st.just(None))
WAIT = st.tuples(st.just("wait"), st.just(None), st.floats(0.0, 0.5))
STALL = st.tuples(st.just("stall"), st.just(None), st.floats(0.0, 0.5))
FOLLOW = st.tuples(st.just("follow"), st.just(None), PROFILE)


@given(st.lists(st.one_of(PUSH, TAKE, WAIT, STALL, FOLLOW), max_size=60), PROFILE, st.integers(0, 1000))
def test_all_bytes_come_once_and_in_order_whatever_befalls_the_link(events, profile, seed):
    real = HandClock()
    clock = LinkClock(real)
    shaper = shaper_of(profile, clock.now, seed)
    flows, sent, came = [Flow(shaper) for _ in range(3)], [b""] * 3, [b""] * 3
    rng = np.random.default_rng(seed)
    for event, which, value in events:
        if event == "push":
            data = rng.bytes(value)
            flows[which].push(data)
            sent[which] += data
        elif event == "take":
            came[which] += flows[which].take(clock.now())
            assert flows[which].next_due > clock.now()
        elif event == "wait":
            real.seconds += value
        elif event == "stall":
            clock.stall(value)
        else:
            shaper.follow(value, value.up_bits_per_s)
        assert all(there.startswith(here) for there, here in zip(sent, came, strict=True))
        assert shaper.num_bytes == sum(map(len, sent)) - sum(map(len, came))
    for which, flow in enumerate(flows):
        flow.end()
        while flow.next_due < math.inf and not flow.has_ended(clock.now()):
            real.seconds = max(real.seconds, clock.real(flow.next_due) + 1e-9)  # more than rounding
            came[which] += flow.take(clock.now())
    assert came == sent
    assert shaper.num_bytes == 0


@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.integers(1, 3000)), min_size=1, max_size=30))
def test_no_more_comes_than_the_bandwidth_carries_and_none_before_its_time(pushes):
    clock = HandClock()
    flow = Flow(shaper_of(THIN, clock))
    num_sent = num_come = 0
    for wait, num_bytes in pushes:
        clock.seconds += wait
        num_come += len(flow.take(clock.seconds))
        assert num_come <= num_sent
        assert num_come <= 1000 * max(0.0, clock.seconds - 0.1) + 1e-6
        flow.push(bytes(num_bytes))
        num_sent += num_bytes
