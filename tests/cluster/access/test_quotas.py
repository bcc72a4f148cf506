"""Quotas as arithmetic: moments are told, nothing is slept for."""

from __future__ import annotations

import math
import pickle

import pytest

from cactus_core.errors import LimitExceeded
from cluster.access import door as door_module
from cluster.access.admission import Admission
from cluster.access.door import Door
from cluster.access.quotas import Bucket, Quota, Use
from cluster.access.tenants import Tenant


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = Bucket(rate=2.0, burst=4.0, now=0.0)
    given = 0
    for tenth in range(101):  # ten seconds
        if not bucket.wait_s(tenth / 10):
            bucket.take(1, tenth / 10)
            given += 1
    assert given == 4 + 2 * 10


def test_whoever_overdraws_waits_until_all_is_paid():
    bucket = Bucket(rate=10.0, burst=5.0, now=0.0)
    bucket.take(25, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(2.1)
    assert bucket.wait_s(2.0) == pytest.approx(0.1)
    assert not bucket.wait_s(2.2)


def test_a_clock_that_steps_back_gives_nothing():
    bucket = Bucket(rate=1.0, burst=1.0, now=100.0)
    bucket.take(1, 100.0)
    assert bucket.wait_s(50.0) == pytest.approx(1.0)
    assert bucket.wait_s(100.5) == pytest.approx(0.5)


def test_over_quota_says_when_to_come_back():
    use = Use("acme", Quota(positions_per_s=100, positions_burst=10), now=0.0)
    use.charge(60, 0.0)
    with pytest.raises(LimitExceeded, match=r"acme is over its 100 positions a second; try again in 0\.510 s") as refusal:
        use.check_open(0.0)
    assert refusal.value.retry_after_s == pytest.approx(0.51)
    assert pickle.loads(pickle.dumps(refusal.value)).retry_after_s == refusal.value.retry_after_s  # noqa: S301  # our own bytes
    use.check_open(0.6)


def test_a_text_that_was_let_in_may_overdraw_by_one_burst():
    use = Use("acme", Quota(positions_per_s=1, positions_burst=10), now=0.0)
    use.charge(19, 0.0)
    use.check_running(0.0)
    use.charge(1, 0.0)
    with pytest.raises(LimitExceeded):
        use.check_running(0.0)


def test_drafts_that_hardly_ever_stand_are_left_out_for_a_while():
    use = Use("acme", Quota(least_accepted=0.1, waste_window=100, throttled_s=30.0), now=0.0)
    for _ in range(10):  # one in ten stands
        use.drafted(10)
        use.accepted(1, 0.0)
    assert not use.is_throttled(0.0)
    for _ in range(10):
        use.drafted(10)
        use.accepted(0, 1.0)
    assert use.is_throttled(1.0)
    assert use.is_throttled(30.9)
    assert not use.is_throttled(31.1)


def test_another_quota_counts_at_once_and_gives_no_second_burst():
    use = Use("acme", Quota(opens_per_s=1, opens_burst=10), now=0.0)
    for _ in range(10):
        use.opened(0.0)
    use.adjust(Quota(opens_per_s=2, opens_burst=100), 0.0)
    with pytest.raises(LimitExceeded):
        use.check_open(0.0)
    use.check_open(0.6)


def test_one_who_floods_takes_nothing_from_the_gateways_own_limit():
    door = Door(Admission(opens_per_s=0.001, opens_burst=3))
    flood, other = Tenant("flood", Quota(opens_per_s=0.001, opens_burst=1)), Tenant("other", Quota())
    uses = [door.enter(flood)]
    for _ in range(100):
        with pytest.raises(LimitExceeded, match="flood opens more"):
            door.enter(flood)
    uses += [door.enter(other), door.enter(other)]
    with pytest.raises(LimitExceeded, match="the gateway opens more"):
        door.enter(other)
    assert door.num_refused["RESOURCE_EXHAUSTED"] == 101
    for use in uses:
        door.leave(use)
    assert door.num_streams == 0


def test_callers_that_left_no_trace_are_forgotten(monkeypatch):
    monkeypatch.setattr(door_module, "_MANY", 50)
    door = Door(Admission())
    door._next_tidying = 50
    stays = door.enter(Tenant("stays", Quota()))
    for number in range(1000):
        door.leave(door.enter(Tenant(f"host {number}", Quota())))
    assert len(door._uses) <= 51
    assert door._uses["stays"] is stays


def test_no_limit_is_no_limit():
    use = Use("free", Quota(), now=0.0)
    for _ in range(1000):
        use.opened(0.0)
        use.charge(1 << 20, 0.0)
    use.check_open(0.0)
    use.check_running(0.0)
    assert Quota().num_positions == math.inf
