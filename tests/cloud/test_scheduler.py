"""First come, first served, under a budget; long prompts in chunks."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from cloud.scheduler import plan_step


@dataclass
class Work:
    num_unread: int
    num_drafted: int = 0


def test_what_fits_goes_in_the_order_it_came():
    waiting = [Work(1, 5), Work(1), Work(3, 2)]
    assert [(s.work, s.num_text, s.decides) for s in plan_step(waiting, 64)] == [(w, w.num_unread, True) for w in waiting]


def test_a_long_prompt_is_read_in_chunks_and_decides_last():
    [share] = plan_step([Work(100, 4)], 64)
    assert (share.num_text, share.decides) == (64, False)
    [share] = plan_step([Work(36, 4)], 64)
    assert (share.num_text, share.decides) == (36, True)


def test_a_block_larger_than_the_budget_still_goes_alone():
    [share] = plan_step([Work(1, 500), Work(1)], 64)
    assert share.decides


@given(st.lists(st.builds(Work, st.integers(1, 300), st.integers(0, 80)), max_size=20), st.integers(1, 128))
def test_the_first_always_gets_a_share_and_the_budget_holds(waiting, budget):
    shares = plan_step(waiting, budget)
    assert [share.work for share in shares][:1] == waiting[:1]
    sizes = [share.num_text + (share.work.num_drafted if share.decides else 0) for share in shares]
    assert sum(sizes) <= budget or len(shares) == 1
    assert all(share.num_text >= 1 for share in shares)
