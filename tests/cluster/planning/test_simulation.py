"""The simulation agrees with what can be worked out by hand."""

import numpy as np
import pytest

from cactus_core.errors import InvalidInput
from cluster.link_profile import PROFILES, LinkProfile
from cluster.planning.acceptance_curve import AcceptanceCurve
from cluster.planning.capacity_law import CapacityLaw
from cluster.planning.configuration import OFF, Setting, Way, ways
from cluster.planning.device_profile import DeviceProfile
from cluster.planning.simulation import simulated
from cluster.planning.verifier_profile import VerifierProfile

PERFECT = PROFILES["perfect"]
DEVICE = DeviceProfile("device", {8: 0.010}, draft_w=2.0, idle_w=0.5, byte_j=0.0)
VERIFIER = VerifierProfile("verifier", {1: 0.030, 100: 0.030})
# Where a tree is waited for, two of its tokens come true; of one that starts elsewhere none does.
ALWAYS_TWO = AcceptanceCurve("two", reach={8: [[2, 0, 0] * 100]})
AT_ONCE = AcceptanceCurve("at once", reach={8: [[3] * 300]})
NEVER = AcceptanceCurve("never", reach={8: [[0] * 300]})


def setting(*, device=DEVICE, link=PERFECT, verifier=VERIFIER, acceptance=ALWAYS_TWO):
    return Setting(device, link, verifier, acceptance)


def test_off_brings_a_token_a_step_to_each_client():
    outcome = simulated(setting(), OFF, 3)
    assert outcome.tokens_per_s == pytest.approx(3 / 0.030, rel=0.01)
    assert outcome.time_per_token_s_p95 == pytest.approx(0.030)
    assert outcome.verifier_s_per_token == pytest.approx(0.010)
    assert outcome.load == pytest.approx(1.0, abs=0.01)
    assert (outcome.tokens_per_decision, outcome.up_bytes_per_token) == (1.0, 0.0)
    assert outcome.joules_per_token == pytest.approx(0.5 * 0.030, rel=0.01)


def test_waiting_takes_a_step_a_round_trip_and_a_draft_for_what_comes_true_and_one():
    link = LinkProfile("link", round_trip_s=0.040)
    outcome = simulated(setting(link=link), Way("wait", 8), 1, seconds=60.0)
    assert outcome.tokens_per_s == pytest.approx(3 / (0.030 + 0.040 + 0.010), rel=0.02)
    assert outcome.tokens_per_decision == pytest.approx(3.0)
    assert outcome.load == pytest.approx(0.030 / 0.080, rel=0.02)
    assert outcome.joules_per_token == pytest.approx((0.010 * 2.0 + 0.080 * 0.5) / 3, rel=0.02)


def test_streaming_is_never_slower_than_off_and_gains_nothing_from_trees_that_come_too_late():
    far = LinkProfile("far", round_trip_s=0.5)
    off = simulated(setting(link=far), OFF, 1)
    assert simulated(setting(link=far), Way("stream", 8), 1).tokens_per_s == pytest.approx(off.tokens_per_s, rel=0.01)
    near = simulated(setting(acceptance=AT_ONCE), Way("stream", 8), 1)
    assert near.tokens_per_s > 1.5 * off.tokens_per_s


@pytest.mark.parametrize("way", [Way("wait", 8), Way("stream", 8)])
def test_a_draft_that_never_comes_true_brings_a_token_a_decision(way):
    assert simulated(setting(acceptance=NEVER), way, 2).tokens_per_decision == 1.0


def test_clients_that_wait_leave_the_verifier_to_others():
    """Two that wait share steps or take turns: together they get nearly twice what one gets."""
    link = LinkProfile("link", round_trip_s=0.2)
    one, two = (simulated(setting(link=link), Way("wait", 8), count, seconds=60.0).tokens_per_s for count in (1, 2))
    assert two > 1.7 * one


def test_a_step_reads_no_more_than_its_budget():
    verifier = VerifierProfile("verifier", {1: 0.030, 100: 0.030}, token_budget=9)
    outcome = simulated(setting(verifier=verifier), Way("wait", 8), 8)
    assert outcome.tokens_per_s == pytest.approx(3 / 0.030, rel=0.03)  # one tree of 8 and its text's last token a step


def test_a_step_takes_longer_the_more_it_reads():
    slow = VerifierProfile("slow", {1: 0.030, 9: 0.060})
    outcome = simulated(setting(verifier=slow), Way("wait", 8), 1, seconds=60.0)
    assert outcome.tokens_per_s == pytest.approx(3 / 0.070, rel=0.02)


def test_the_same_seed_gives_the_same_outcome():
    curve = AcceptanceCurve("shares", survival={8: [0.8, 0.5, 0.2]})
    device = DeviceProfile("device", {8: 0.010}, draft_spread=0.5)
    runs = [simulated(setting(acceptance=curve, device=device, link=PROFILES["near"]), Way("stream", 8), 4, seed=3) for _ in range(2)]
    assert runs[0] == runs[1]


def test_shares_are_met_by_what_comes_true():
    curve = AcceptanceCurve("shares", survival={8: [0.8, 0.5, 0.2]})
    outcome = simulated(setting(acceptance=curve), Way("wait", 8), 4, seconds=60.0)
    assert outcome.tokens_per_decision == pytest.approx(2.5, rel=0.03)
    assert curve.reaches(8, np.random.default_rng(0)).max() <= 3


def test_more_of_them_are_slower():
    verifier = VerifierProfile("verifier", {1: 0.010}, session_s=0.001)
    p95 = [simulated(setting(verifier=verifier), OFF, count).time_per_token_s_p95 for count in (1, 8, 64)]
    assert p95 == sorted(p95)
    assert p95[2] > p95[0]


@pytest.mark.parametrize(("gamma", "draft_s", "verify_s"), [(5, 0.002, 0.010), (4, 0.010, 0.010)])
def test_a_busy_verifier_carries_as_many_more_clients_as_the_capacity_law_says(gamma, draft_s, verify_s):
    law = CapacityLaw(gamma, draft_s, verify_s)
    assert law.formula == pytest.approx(1 + gamma * draft_s / verify_s)
    assert law.simulated(64) == pytest.approx(law.formula, rel=0.02)
    assert law.simulated(1) == pytest.approx(1.0, rel=0.02)  # who is alone waits for nobody


def test_ways_that_do_not_hold_together_are_refused():
    assert [str(way) for way in ways(NEVER)] == ["off", "wait, 8", "stream, 8"]
    for mode, num_nodes in (("off", 8), ("wait", 0), ("perhaps", 8)):
        with pytest.raises(InvalidInput, match="no way to speculate"):
            Way(mode, num_nodes)
    with pytest.raises(InvalidInput, match="the law takes"):
        CapacityLaw(0, 0.1, 0.1)
