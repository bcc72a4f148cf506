"""What a link can be, and what can befall it."""

import math

import pytest

from cactus_core.errors import InvalidInput
from cluster.link_profile import PROFILES, LinkProfile, profile_named
from cluster.link_trace import LinkTrace, random_moments


def test_the_named_profiles_are_those_that_benchmarks_speak_of():
    assert {profile.name: profile.description for profile in PROFILES.values()} == {
        "perfect": "0 ms round trip, no limit of bandwidth",
        "near": "10 ms round trip, 100/300 Mbps up/down",
        "regional": "40 ms round trip, 25/100 Mbps up/down",
        "far": "90 ms round trip, 5/30 Mbps up/down",
    }
    assert [profile.jitter_s / profile.one_way_s for profile in PROFILES.values() if profile.one_way_s] == pytest.approx([0.05] * 3)
    assert not any(profile.loss for profile in PROFILES.values())


def test_a_profile_is_found_by_its_name():
    assert all(profile_named(name) is profile for name, profile in PROFILES.items())


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(InvalidInput, match=r"'moon'; choose one of: perfect .*near .*regional \(40 ms .*far \(90 ms") as error:
        profile_named("moon")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"round_trip_s": -0.01},
        {"round_trip_s": math.inf},
        {"round_trip_s": math.nan},
        {"round_trip_s": 0.01, "jitter_s": 0.006},
        {"jitter_s": -0.001},
        {"jitter_s": math.nan},
        {"up_bits_per_s": 0.0},
        {"down_bits_per_s": math.nan},
        {"loss": 1.1},
        {"loss": math.nan},
        {"retransmit_s": -1.0},
    ],
)
def test_a_link_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidInput, match="of a link must be"):
        LinkProfile("wrong", **wrong)


@pytest.mark.parametrize("moment", [-1.0, math.inf, math.nan])
def test_a_trace_takes_only_moments_that_come(moment):
    with pytest.raises(InvalidInput, match="moments"):
        LinkTrace(steps=((moment, PROFILES["far"]),))
    with pytest.raises(InvalidInput, match="moments"):
        LinkTrace(cuts_s=(0.1, moment))


def test_random_moments_are_as_many_as_asked_for_and_the_seeds_own():
    moments = random_moments(10, 3.0, seed=1)
    assert len(set(moments)) == 10
    assert list(moments) == sorted(moments)
    assert all(0.0 <= moment < 3.0 for moment in moments)
    assert moments == random_moments(10, 3.0, seed=1) != random_moments(10, 3.0, seed=2)
    assert LinkTrace(cuts_s=moments).cuts_s == moments
