from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cactus_core.errors import Unsupported
from cloud.attention import AttentionPlan, paged_attention, plan_attention
from cloud.padded_attention import PaddedAttention, like_sessions
from cloud.pages import PagePool, PageTable
from cloud.ragged_attention import RaggedAttention
from cloud.segment import Segment, chain
from tests.core.drafts import path_to

HEADS, KV_HEADS, DIM = 6, 2, 8
ATTENTIONS = {
    "each session by itself": (RaggedAttention, "cloud.ragged_attention._SMALL_BYTES", 0),
    "some short texts together": (RaggedAttention, "cloud.ragged_attention._SMALL_BYTES", 2 * KV_HEADS * DIM * 4 * 20),
    "short texts together": (RaggedAttention, "cloud.ragged_attention._SMALL_BYTES", 1 << 18),
    "padded, alone": (PaddedAttention, "cloud.padded_attention._MAX_CELLS", 1),
    "padded, small together": (PaddedAttention, "cloud.padded_attention._MAX_CELLS", 4096),
    "padded, all together": (PaddedAttention, "cloud.padded_attention._MAX_CELLS", 1 << 22),
}
ON_TILES = {"tiles": ("_PROGRAMS", 0), "tiles, each shared by programs": ("_LONG", 0)}
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton, whose interpreter runs a GPU's kernels on a CPU")


class Layer(torch.nn.Module):
    layer_idx = 1


def attend_plainly(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`[H, D]` from query `[H, D]` and keys and values `[S, Hkv, D]`, by the formula."""
    key, value = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (key, value))
    weights = (torch.einsum("hd,shd->hs", query, key) / DIM**0.5).softmax(-1)
    return torch.einsum("hs,shd->hd", weights, value)


def on_tiles(attention: str) -> tuple[Any, str, int]:
    from cloud.tiled_attention import TiledAttention

    bound, value = ON_TILES[attention]
    return TiledAttention.of, f"cloud.tiled_attention.{bound}", value


def scattered(pool: PagePool, total: int) -> PageTable:
    """A table whose pages are nowhere neighbours: others hold those in between."""
    table = PageTable(pool)
    for positions in range(16, total + 16, 16):
        table.reserve(min(positions, total))
        last_page = int(table.slots(table.num_reserved - 1, table.num_reserved)[0]) // 16
        pool.allocate(1, after=last_page)
    return table


trees = st.integers(1, 12).flatmap(lambda n: st.tuples(*(st.integers(-1, node - 1) for node in range(n))))
chains = st.integers(1, 150).map(lambda n: tuple(range(-1, n - 1)))
one = st.just((-1,))
sessions = st.lists(st.tuples(st.integers(0, 50), st.one_of(one, trees, chains), st.floats(0, 1), st.booleans()), min_size=1, max_size=6)


@pytest.mark.parametrize("attention", [*ATTENTIONS, *(pytest.param(name, marks=[needs_triton, pytest.mark.slow]) for name in ON_TILES)])
@given(sessions=sessions, seed=st.integers(0, 1 << 20))
@settings(max_examples=25, deadline=None)
def test_each_node_attends_to_what_it_may_see(attention: str, sessions: list[tuple[int, tuple[int, ...], float, bool]], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    pool = PagePool(300, num_layers=2, num_kv_heads=KV_HEADS, head_dim=DIM)
    pool.keys.fill_(torch.nan)  # what is not written must not be read
    pool.values.fill_(torch.nan)
    segments, seen = [], []
    for past, parents, share_before, is_scattered in sessions:
        before = int(share_before * len(parents))
        before -= before == len(parents)
        total = past + len(parents)
        table = scattered(pool, total) if is_scattered else PageTable(pool)
        table.reserve(total)
        table.advance(past)
        slots = torch.from_numpy(table.slots(0, past + before))
        written = torch.randn(2, total, KV_HEADS, DIM, generator=random)
        pool.keys[1][:, slots], pool.values[1][:, slots] = written[:, : past + before].transpose(1, 2)
        segments.append(Segment(table, np.zeros(len(parents) - before, dtype=np.int64), np.array(parents), num_before=before))
        seen.append(written)
    new = torch.cat([written[:, -len(segment.tokens) :] for segment, written in zip(segments, seen, strict=True)], 1)
    query = torch.randn(1, HEADS, new.shape[1], DIM, generator=random)
    with pytest.MonkeyPatch.context() as patch:
        kind, bound, value = ATTENTIONS[attention] if attention in ATTENTIONS else on_tiles(attention)
        patch.setattr("cloud.attention.RaggedAttention", kind)
        patch.setattr(bound, value)
        plan = plan_attention(segments, heads_per_kv_head=HEADS // KV_HEADS)
    out, _ = paged_attention(Layer(), query, new[:1].transpose(1, 2), new[1:].transpose(1, 2), None, plan=plan)
    row = 0
    for segment, (keys, values) in zip(segments, seen, strict=True):
        past = segment.table.num_committed
        for node in range(segment.num_before, len(segment.parents)):
            visible = [*range(past), *(past + other for other in path_to(segment.parents.tolist(), node))]
            expected = attend_plainly(query[0, :, row], keys[visible], values[visible])
            assert torch.allclose(out[0, row], expected, atol=1e-5)
            row += 1
    assert pool.keys[0].isnan().all()  # another layer's are its own


def one_node() -> AttentionPlan:
    table = PageTable(PagePool(1, num_layers=2, num_kv_heads=KV_HEADS, head_dim=DIM))
    table.reserve(1)
    return plan_attention([chain(table, [0])], heads_per_kv_head=HEADS // KV_HEADS)


def test_sessions_of_like_shape_go_together_and_unlike_ones_do_not() -> None:
    rows, seen = [1, 300, 1, 1, 1], [21, 320, 26, 31, 901]  # a prompt among four that decode
    assert like_sessions(rows, seen, 4096) == [[0, 2, 3], [4], [1]]


@pytest.mark.parametrize("asked", ["sliding_window", "softcap", "s_aux", "position_bias"])
def test_attention_that_asks_for_more_is_refused_rather_than_served_wrongly(asked: str) -> None:
    query, key = torch.zeros(1, HEADS, 1, DIM), torch.zeros(1, KV_HEADS, 1, DIM)
    with pytest.raises(Unsupported, match=asked):
        paged_attention(Layer(), query, key, key, None, plan=one_node(), **{asked: 4})
