from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cactus_core.errors import LimitExceeded
from cloud.pages import PAGE_SIZE, PagePool, PageTable, commit_paths, reserve_all


def small_pool(num_pages: int) -> PagePool:
    return PagePool(num_pages, num_layers=2, num_kv_heads=1, head_dim=1)


def write(table: PageTable, first: int, values: list[float]) -> None:
    slots = torch.from_numpy(table.slots(first, first + len(values)))
    table.pool.keys[:, slots, 0, 0] = torch.tensor(values)
    table.pool.values[:, slots, 0, 0] = -torch.tensor(values)


def read(table: PageTable) -> list[float]:
    slots = torch.from_numpy(table.slots(0, table.num_committed))
    keys, values = table.pool.keys[:, slots, 0, 0], table.pool.values[:, slots, 0, 0]
    assert (keys == -values).all()
    assert (keys[0] == keys[1]).all()
    return keys[0].tolist()


@pytest.mark.parametrize(("total", "num_pages"), [(0, 0), (1, 1), (16, 1), (17, 2), (160, 10)])
def test_a_table_holds_exactly_the_pages_its_positions_need(total: int, num_pages: int) -> None:
    pool = small_pool(10)
    table = PageTable(pool)
    table.reserve(total)
    assert (table.num_pages, pool.num_free_pages) == (num_pages, 10 - num_pages)


def test_a_pool_that_runs_out_takes_nothing() -> None:
    pool = small_pool(3)
    first, second = PageTable(pool), PageTable(pool)
    first.reserve(17)
    with pytest.raises(LimitExceeded, match="3 more pages are needed and 1 of 3 are free") as caught:
        reserve_all([(first, 48), (second, 17)])
    assert "\n" not in str(caught.value)
    assert (first.num_pages, first.num_reserved, second.num_pages, pool.num_free_pages) == (2, 17, 0, 1)


def test_a_second_release_of_a_table_finds_nothing_to_give() -> None:
    pool = small_pool(2)
    table, other = PageTable(pool), PageTable(pool)
    table.reserve(20)
    table.release()
    other.reserve(20)
    table.release()
    assert (pool.num_free_pages, other.num_pages) == (0, 2)


def test_a_page_cannot_be_released_twice() -> None:
    pool = small_pool(2)
    pages = pool.allocate(1)
    pool.release(pages)
    with pytest.raises(ValueError, match="free already"):
        pool.release(pages)


@pytest.mark.parametrize("path", [[-1], [0, 0], [1, 0], [5], [0, 5]])
def test_what_is_not_a_path_of_reserved_nodes_is_refused_and_changes_nothing(path: list[int]) -> None:
    pool = small_pool(2)
    fine, table = PageTable(pool), PageTable(pool)
    fine.reserve(3)
    table.reserve(5)
    write(fine, 0, [1.0, 2.0, 3.0])
    before = pool.keys.clone()
    with pytest.raises(ValueError, match="not a path"):
        commit_paths(pool, [(fine, [2]), (table, path)])
    assert (fine.num_committed, table.num_committed, pool.num_free_pages) == (0, 0, 0)
    assert torch.equal(pool.keys, before)


def test_a_path_that_lies_in_place_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = PageTable(small_pool(2))
    table.reserve(20)

    def moved(*_: object) -> None:
        raise AssertionError("keys were moved")

    monkeypatch.setattr(torch.Tensor, "index_copy_", moved)
    table.commit(range(18))
    assert table.num_committed == 18


def test_rolling_forward_is_not_rolling_back() -> None:
    table = PageTable(small_pool(2))
    table.reserve(20)
    table.commit(range(10))
    with pytest.raises(ValueError, match="11 of 10"):
        table.rollback(11)


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_paths_of_several_sessions_land_in_the_text_in_their_order(data: st.DataObject) -> None:
    pool = small_pool(40)
    expected, paths = [], []
    for session in range(data.draw(st.integers(1, 4))):
        table = PageTable(pool)
        past, new = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 40))
        table.reserve(past)
        write(table, 0, [1000.0 * session + i for i in range(past)])
        table.commit(range(past))
        table.reserve(past + new)
        write(table, past, [1000.0 * session + 500 + i for i in range(new)])
        path = sorted(data.draw(st.sets(st.integers(0, new - 1))))
        paths.append((table, path))
        expected.append([*(1000.0 * session + i for i in range(past)), *(1000.0 * session + 500 + i for i in path)])
    commit_paths(pool, paths)
    assert [read(table) for table, _ in paths] == expected


class PageAccounting(RuleBasedStateMachine):
    """Tables grow, commit, roll back and go, in any order: no page is lost and none has two owners."""

    @initialize()
    def start(self) -> None:
        self.pool = small_pool(12)
        self.tables = [PageTable(self.pool) for _ in range(3)]

    @rule(which=st.integers(0, 2), more=st.integers(0, 100))
    def reserve(self, which: int, more: int) -> None:
        table = self.tables[which]
        before = (table.num_pages, table.num_reserved, self.pool.num_free_pages)
        try:
            table.reserve(table.num_committed + more)
        except LimitExceeded:
            assert (table.num_pages, table.num_reserved, self.pool.num_free_pages) == before

    @rule(which=st.integers(0, 2), share=st.floats(0, 1))
    def commit(self, which: int, share: float) -> None:
        table = self.tables[which]
        table.commit(range(int(share * (table.num_reserved - table.num_committed))))
        assert table.num_reserved == table.num_committed

    @rule(which=st.integers(0, 2), share=st.floats(0, 1))
    def rollback(self, which: int, share: float) -> None:
        self.tables[which].rollback(int(share * self.tables[which].num_committed))

    @rule(which=st.integers(0, 2))
    def release(self, which: int) -> None:
        self.tables[which].release()

    @invariant()
    def every_page_is_free_or_has_one_owner(self) -> None:
        for table in self.tables:
            assert table.num_committed <= table.num_reserved
            assert table.num_pages == -(-table.num_reserved // PAGE_SIZE)
        slots = np.concatenate([table.slots(0, table.num_reserved) for table in self.tables])
        assert len(np.unique(slots)) == len(slots)
        assert self.pool.num_free_pages + sum(table.num_pages for table in self.tables) == self.pool.num_pages


TestPageAccounting = PageAccounting.TestCase
TestPageAccounting.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
