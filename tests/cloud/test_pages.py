from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cactus_core.errors import LimitExceeded
from cloud.pages import PAGE_SIZE, PagePool, PageTable, commit_paths, reserve_all
from tests.cloud.small_pools import read, small_pool, write


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


def test_what_advances_stays_where_it_is_and_the_rest_stays_reserved() -> None:
    table = PageTable(small_pool(3))
    table.reserve(40)
    before = table.slots(0, 40)
    table.advance(17)
    assert (table.num_committed, table.num_reserved) == (17, 40)
    assert (table.slots(0, 40) == before).all()


@pytest.mark.parametrize("num_positions", [-1, 6])
def test_no_more_can_advance_than_is_reserved(num_positions: int) -> None:
    table = PageTable(small_pool(1))
    table.reserve(5)
    with pytest.raises(ValueError, match=f"{num_positions} of 5 reserved"):
        table.advance(num_positions)


def test_sessions_that_grow_in_turn_keep_their_positions_in_one_run() -> None:
    pool = small_pool(200)
    tables = [PageTable(pool) for _ in range(8)]
    for length in range(1, 200):
        reserve_all([(table, length) for table in tables])
    assert all((np.diff(table.slots(0, 199)) == 1).all() for table in tables)


def test_the_memory_of_a_page_is_what_a_pool_takes_for_each_beside_its_spare_slot() -> None:
    shape = {"num_layers": 3, "num_kv_heads": 2, "head_dim": 5, "dtype": torch.bfloat16}
    pool = PagePool(7, **shape)
    page_bytes = PagePool.page_bytes(**shape)
    assert 7 * page_bytes + page_bytes // PAGE_SIZE == pool.keys.nbytes + pool.values.nbytes


def published(pool: PagePool, text: list[int], scope: str = "") -> PageTable:
    table = PageTable(pool)
    table.reserve(len(text))
    table.advance(len(text))
    table.publish(text, scope)
    return table


@pytest.mark.parametrize(("length", "num_adopted"), [(0, 0), (16, 0), (17, 16), (32, 16), (33, 32), (90, 64)])
def test_a_text_adopts_whole_pages_and_leaves_its_last_token_to_read(length: int, num_adopted: int) -> None:
    pool = small_pool(10)
    published(pool, [7] * 70)
    table = PageTable(pool)
    assert table.adopt([7] * length) == table.num_committed == table.num_reserved == num_adopted


def test_texts_of_two_scopes_share_nothing() -> None:
    pool = small_pool(10)
    published(pool, [7] * 40, "one")
    assert [PageTable(pool).adopt([7] * 40, scope) for scope in ("", "two", "one")] == [0, 0, 32]


def test_drafted_nodes_are_no_text_to_be_known() -> None:
    table = PageTable(small_pool(3))
    table.reserve(40)
    table.advance(17)
    table.publish([7] * 40)
    assert table.num_known_pages == 1


def test_only_the_part_of_a_text_that_was_given_becomes_known() -> None:
    table = PageTable(small_pool(4))
    table.reserve(50)
    table.advance(50)
    table.publish([7] * 40)
    assert table.num_known_pages == 2


def test_a_table_that_holds_pages_cannot_adopt() -> None:
    table = published(small_pool(3), [7] * 17)
    with pytest.raises(ValueError, match="cannot adopt"):
        table.adopt([7] * 40)


def test_equal_texts_that_were_read_apart_are_held_once() -> None:
    pool = small_pool(10)
    first = published(pool, [7] * 40)
    second = published(pool, [7] * 40)
    assert (second.slots(0, 32) == first.slots(0, 32)).all()
    assert not set(second.slots(32, 40)) & set(first.slots(32, 40))
    assert pool.num_free_pages == 6


def test_rolling_back_into_a_known_page_lets_it_go_whole() -> None:
    pool = small_pool(10)
    table = published(pool, [7] * 40)
    assert (table.rollback(35), table.rollback(20), table.rollback(16), table.rollback(3)) == (35, 16, 16, 0)
    assert pool.num_free_pages == 10


def test_of_a_text_nobody_holds_the_end_is_forgotten_first() -> None:
    pool = small_pool(4)
    published(pool, [7] * 64).release()
    PageTable(pool).reserve(17)
    assert PageTable(pool).adopt([7] * 65) == 32


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
