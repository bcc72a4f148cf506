from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cloud.attention
from cactus_core.errors import Unsupported
from cloud.attention import AttentionPlan, ancestry, paged_attention, plan_attention
from cloud.pages import PagePool, PageTable

HEADS, KV_HEADS, DIM = 6, 2, 8


class Layer(torch.nn.Module):
    layer_idx = 1


def attend_plainly(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """`[n, H, D]` from query `[n, H, D]` and keys and values `[S, Hkv, D]`, by the formula."""
    key, value = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (key, value))
    scores = torch.einsum("nhd,shd->hns", query, key) / DIM**0.5
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    return torch.einsum("hns,shd->nhd", weights, value)


trees = st.integers(1, 12).flatmap(lambda n: st.tuples(*(st.integers(-1, node - 1) for node in range(n))))
sessions = st.lists(st.tuples(st.integers(0, 50), trees), min_size=1, max_size=6)


@pytest.mark.parametrize("cells", [1, 4096, 1 << 20], ids=["alone", "small together", "all together"])
@given(sessions=sessions, seed=st.integers(0, 1 << 20))
@settings(max_examples=25, deadline=None)
def test_every_grouping_gives_plain_attention_over_what_each_node_may_see(
    cells: int, sessions: list[tuple[int, tuple[int, ...]]], seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    pool = PagePool(40, num_layers=2, num_kv_heads=KV_HEADS, head_dim=DIM)
    pool.keys.fill_(torch.nan)  # what is not written must not be read
    pool.values.fill_(torch.nan)
    tables, pasts = [], []
    for past, tree in sessions:
        table = PageTable(pool)
        table.reserve(past)
        table.commit(range(past))
        slots = torch.from_numpy(table.slots(0, past))
        pasts.append(torch.randn(2, past, KV_HEADS, DIM, generator=random))
        pool.keys[1, slots], pool.values[1, slots] = pasts[-1]
        table.reserve(past + len(tree))
        tables.append(table)
    parents = [np.array(tree) for _, tree in sessions]
    sizes = [len(tree) for tree in parents]
    query = torch.randn(1, HEADS, sum(sizes), DIM, generator=random)
    new = torch.randn(2, 1, KV_HEADS, sum(sizes), DIM, generator=random)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cloud.attention, "_CPU_CELLS", cells)
        plan = plan_attention(tables, parents, heads_per_kv_head=HEADS // KV_HEADS, dtype=torch.float32)
    out, _ = paged_attention(Layer(), query, new[0], new[1], None, plan=plan)
    start = 0
    for past_KV, tree, size in zip(pasts, parents, sizes, strict=True):
        rows = slice(start, start + size)
        keys, values = (torch.cat([past_KV[i], new[i, 0, :, rows].transpose(0, 1)]) for i in (0, 1))
        visible = torch.ones(size, len(keys), dtype=torch.bool)
        visible[:, len(keys) - size :] = torch.from_numpy(ancestry(tree))
        expected = attend_plainly(query[0, :, rows].transpose(0, 1), keys, values, visible)
        assert torch.allclose(out[0, rows], expected, atol=1e-5)
        start += size
    assert pool.keys[0].isnan().all()  # another layer's are its own


def test_a_node_sees_itself_and_its_ancestors() -> None:
    assert ancestry(np.array([-1, 0, 0, 2, -1])).astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def one_node() -> AttentionPlan:
    table = PageTable(PagePool(1, num_layers=2, num_kv_heads=KV_HEADS, head_dim=DIM))
    table.reserve(1)
    return plan_attention([table], [np.array([-1])], heads_per_kv_head=HEADS // KV_HEADS, dtype=torch.float32)


def test_a_node_that_sees_all_needs_no_mask() -> None:
    assert one_node().groups[0].bias is None


def test_sessions_of_like_shape_go_together_and_unlike_ones_do_not() -> None:
    pool = PagePool(200, num_layers=1, num_kv_heads=1, head_dim=1)
    tables = [PageTable(pool) for _ in range(5)]
    sizes = [1, 300, 1, 1, 1]  # a prompt among four that decode
    for table, size, past in zip(tables, sizes, [20, 0, 25, 30, 900], strict=True):
        table.reserve(past)
        table.commit(range(past))
        table.reserve(past + size)
    plan = plan_attention(tables, [np.arange(-1, n - 1) for n in sizes], heads_per_kv_head=1, dtype=torch.float32)
    assert [group.num_sessions for group in plan.groups] == [3, 1, 1]


@pytest.mark.parametrize("asked", ["sliding_window", "softcap", "s_aux", "position_bias"])
def test_attention_that_asks_for_more_is_refused_rather_than_served_wrongly(asked: str) -> None:
    query, key = torch.zeros(1, HEADS, 1, DIM), torch.zeros(1, KV_HEADS, 1, DIM)
    with pytest.raises(Unsupported, match=asked):
        paged_attention(Layer(), query, key, key, None, plan=one_node(), **{asked: 4})
