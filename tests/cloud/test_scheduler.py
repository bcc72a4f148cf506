"""Small work first and fairly, large work in parts, nobody for ever."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from cloud.scheduler import SMALL, Scheduler


@dataclass(eq=False)
class Work:
    num_unread: int
    tenant: str = ""
    is_optional: bool = False
    is_in_parts: bool = False


def sizes(shares):
    return [share.num_tokens for share in shares]


def planned(waiting, *, budget=512, num_free=40.0, patience=1.25):
    return Scheduler(budget, num_free=num_free, patience=patience).plan(waiting)


def test_small_work_goes_whole_in_the_order_it_came():
    waiting = [Work(6), Work(1), Work(25)]
    assert [(share.work, share.num_tokens) for share in planned(waiting)] == [(work, work.num_unread) for work in waiting]


def test_a_prompt_alone_is_read_as_fast_as_the_budget_lets():
    assert sizes(planned([Work(1000)], budget=512)) == [512]


def test_a_prompt_in_company_makes_the_step_longer_by_no_more_than_patience():
    decode, prompt = Work(1), Work(1000)
    shares = planned([prompt, decode], num_free=79.0, patience=1.25)
    assert [(share.work, share.num_tokens) for share in shares] == [(decode, 1), (prompt, 20)]  # (79 + 1 + 20) = 1.25 x (79 + 1)


def test_the_last_of_a_prompt_is_taken_apart_as_all_before_it():
    waiting = [Work(SMALL, is_in_parts=True), Work(10)]
    assert sizes(planned(waiting, num_free=40.0, patience=1.25)) == [10, 12]


def test_what_small_work_leaves_of_the_budget_is_all_that_large_work_gets():
    assert sizes(planned([Work(100), *(Work(50) for _ in range(9))], budget=512)) == [50] * 9 + [62]


def test_small_work_never_takes_the_whole_budget_from_large_work():
    shares = planned([Work(500), *(Work(1) for _ in range(600))], budget=512)
    assert sizes(shares)[-1] == 4
    assert sum(sizes(shares)) == 512


def test_a_tenant_with_many_requests_gets_no_more_than_one_with_few():
    scheduler = Scheduler(64, num_free=0.0)
    crowd = [Work(10, "crowd") for _ in range(40)]
    read = {"crowd": 0, "one": 0}
    for _ in range(20):
        for share in scheduler.plan([*crowd, Work(10, "one"), Work(10, "one"), Work(10, "one"), Work(10, "one")]):
            read[share.work.tenant] += share.num_tokens
    assert abs(read["crowd"] - read["one"]) <= 20


def test_who_was_away_comes_back_without_credit():
    scheduler = Scheduler(10, num_free=0.0)
    both = [Work(10, "here"), Work(10, "away")]
    scheduler.plan(both)
    for _ in range(50):
        scheduler.plan([Work(10, "here")])
    served = [scheduler.plan(both)[0].work.tenant for _ in range(10)]
    assert served.count("here") >= 4


def test_who_was_served_more_is_remembered_while_away():
    scheduler = Scheduler(10, num_free=0.0)
    for _ in range(2):
        scheduler.plan([Work(10, "much")])
    scheduler.plan([Work(1, "little")])
    assert scheduler.plan([Work(10, "much"), Work(10, "little")])[0].work.tenant == "little"


def in_gap(num_unread=1, tenant=""):
    return Work(num_unread, tenant, is_optional=True)


def test_optional_work_goes_as_any_other_where_nothing_else_waits():
    assert sizes(planned([in_gap() for _ in range(30)], num_free=4.0)) == [1] * 30


def test_optional_work_comes_last_and_only_as_far_as_the_step_costs_that_anyway():
    waiting = [*(in_gap() for _ in range(30)), Work(25), Work(7)]
    shares = planned(waiting, num_free=40.0)
    assert sizes(shares) == [25, 7, *[1] * 8]
    assert [share.work for share in shares[2:]] == waiting[:8]


def test_under_load_drafts_go_and_gaps_wait():
    waiting = [in_gap(), *(Work(25) for _ in range(3))]
    assert sizes(planned(waiting, num_free=40.0)) == [25, 25, 25]
    assert sizes(planned([in_gap(), Work(1000)], num_free=40.0)) == [512]


def test_a_prompt_has_to_be_read_whatever_comes_after_it():
    shares = planned([in_gap(1000), Work(25)], num_free=55.0)
    assert sizes(shares) == [25, 20]


def test_optional_work_is_shared_fairly_too():
    scheduler = Scheduler(64, num_free=10.0)
    read = {"crowd": 0, "one": 0}
    for _ in range(20):
        for share in scheduler.plan([Work(8, "busy"), *(in_gap(tenant="crowd") for _ in range(20)), in_gap(tenant="one")]):
            if share.work.is_optional:
                read[share.work.tenant] += share.num_tokens
    assert read == {"crowd": 20, "one": 20}


work = st.builds(Work, st.integers(1, 2000), st.sampled_from("abc"), st.booleans(), st.booleans())


@given(st.lists(work, min_size=1, max_size=20), st.integers(2, 600), st.floats(0, 500))
def test_shares_are_of_waiting_work_within_the_budget(waiting, budget, num_free):
    shares = planned(waiting, budget=budget, num_free=num_free)
    assert shares
    assert len({id(share.work) for share in shares}) == len(shares)
    for share in shares:
        assert share.work in waiting
        assert 1 <= share.num_tokens <= share.work.num_unread
        assert share.num_tokens == share.work.num_unread or share.work.num_unread > SMALL or share.work.is_in_parts
    assert sum(sizes(shares)) <= max(budget, SMALL)


@given(st.lists(work, min_size=1, max_size=12), st.integers(2, 300))
def test_everything_that_waits_is_read_in_the_end(waiting, budget):
    scheduler = Scheduler(budget, num_free=10.0)
    total = sum(work.num_unread for work in waiting)
    for _ in range(len(waiting) + total):
        for share in scheduler.plan(waiting):
            share.work.num_unread -= share.num_tokens
            share.work.is_in_parts = True
        waiting = [work for work in waiting if work.num_unread]
        if not waiting:
            return
    raise AssertionError(f"{waiting} is never read")


def test_large_work_alone_leaves_room_for_what_is_due():
    prompt = Work(1000)
    [share] = Scheduler(512, num_free=75.0, patience=1.25).plan([prompt], num_due=25)
    assert share.num_tokens == 25
