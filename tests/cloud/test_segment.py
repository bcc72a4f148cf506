from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.errors import InvalidInput
from cloud.pages import PagePool, PageTable
from cloud.segment import Segment, ancestry, chain


def new_table() -> PageTable:
    return PageTable(PagePool(1, num_layers=1, num_kv_heads=1, head_dim=1))


@pytest.fixture
def table() -> PageTable:
    return new_table()


@given(tree=st.integers(1, 40).flatmap(lambda n: st.tuples(*(st.integers(-1, node - 1) for node in range(n)))), data=st.data())
def test_a_node_is_as_deep_as_it_has_ancestors_and_sees_them_and_itself(tree: tuple[int, ...], data: st.DataObject) -> None:
    above: list[set[int]] = []
    for node, parent in enumerate(tree):
        above.append({node} if parent == -1 else {node} | above[parent])
    before = data.draw(st.integers(0, len(tree) - 1))
    segment = Segment(new_table(), np.zeros(len(tree) - before, dtype=np.int64), np.array(tree), num_before=before)
    assert segment.depths.tolist() == [len(seen) - 1 for seen in above[before:]]
    assert segment.is_chain == (tree == tuple(range(-1, len(tree) - 1)))
    assert [set(np.flatnonzero(row).tolist()) for row in ancestry(segment.parents)] == above
    assert [set(np.flatnonzero(row).tolist()) for row in ancestry(segment.parents, before)] == above[before:]


def test_a_chain_goes_on_from_one_node_to_the_next(table: PageTable) -> None:
    segment = chain(table, [5, 6, 7], num_logits=1)
    assert segment.parents.tolist() == [-1, 0, 1]
    assert segment.depths.tolist() == [0, 1, 2]


def test_a_part_of_a_tree_has_the_depths_that_its_nodes_have_in_the_whole(table: PageTable) -> None:
    part = Segment(table, np.array([7, 8]), np.array([-1, 0, 0, 2, -1]), num_before=3)
    assert part.depths.tolist() == [2, 0]
    assert part.num_logits == 2


@pytest.mark.parametrize(
    ("tokens", "parents", "num_logits", "num_before", "reason"),
    [
        ([], [], -1, 0, "needs tokens"),
        ([[1]], [[-1]], -1, 0, "a parent for each"),
        ([1, 2], [-1], -1, 0, "a parent for each"),
        ([1, 2], [-1, 0], -1, 1, "a parent for each"),
        ([1], [], -1, -1, "a parent for each"),
        ([1], [-1], 2, 0, "logits are wanted"),
        ([1], [-1], -2, 0, "logits are wanted"),
        ([1, 2], [-1, 1], -1, 0, "node 1 names 1 as its parent"),
        ([1, 2], [-2, 0], -1, 0, "node 0 names -2 as its parent"),
        ([1], [0, 0], -1, 1, "node 0 names 0 as its parent"),
    ],
)
def test_a_segment_that_is_none_is_refused(
    table: PageTable, tokens: list[object], parents: list[object], num_logits: int, num_before: int, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        Segment(table, np.array(tokens), np.array(parents), num_logits, num_before)
