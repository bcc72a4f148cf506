"""Attention of a packed step over paged keys and values, for any `transformers` model that asks `AttentionInterface`.

All sessions' new nodes come as one row `[1, N]`. `AttentionPlan` says, once a step, where each node's keys and values
are written and which slots it may see; every layer follows the same plan. Knows pages and trees; knows nothing of models
and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface

from cactus_core.errors import Unsupported
from cloud.pages import PagePool, PageTable

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

IMPLEMENTATION = "cactus_paged"

# How many cells, rows x slots seen, sessions may fill together in one call. On a CPU a call costs about what 2,000
# cells cost, and one that outgrows the cache costs more than it saves: only small sessions go together. Elsewhere
# launches are dear and cells cheap, and the bound is there for the memory that the gathered keys take.
_CPU_CELLS = 4096
_ACCELERATOR_CELLS = 1 << 22
_GATHER_ROWS = 8  # gathering a slot's keys and values costs about what attending to it from 8 rows does

# What a model may ask of its attention beyond scaled dot products, and would not get here.
_NOT_HONOURED = ("sliding_window", "softcap", "s_aux", "position_bias")


@dataclass(frozen=True, slots=True)
class Group:
    """B sessions that attend in one call, padded to R rows (new nodes) and S slots.

    `rows` `[B * R]` are the nodes among the step's N, padding being N itself, a row of nobody's. `slots` `[B * S]` are
    what they see, and `bias` `[B, 1, heads_per_kv_head * R, S]` what of it: 0 or -inf, added to the scores; None when
    every row sees every slot.
    """

    num_sessions: int
    rows: Tensor
    slots: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """One step's attention, followed by every layer. `written` `[N]` are the slots of the step's nodes."""

    pool: PagePool
    written: Tensor
    groups: tuple[Group, ...]


def plan_attention(tables: Sequence[PageTable], parents: Sequence[Ints], *, heads_per_kv_head: int, dtype: torch.dtype) -> AttentionPlan:
    """The plan of a step in which session i adds the nodes `parents[i]` after its committed positions.

    `parents[i]` `[n]` names each node's parent among the session's own new nodes, earlier ones only; -1 is the
    committed text. Each node sees the committed text, its ancestors and itself. The tables have reserved the nodes'
    positions. `dtype` is the model's.
    """
    pool = tables[0].pool
    device = pool.keys.device
    num_rows = [len(of_session) for of_session in parents]
    num_seen = [table.num_committed + n for table, n in zip(tables, num_rows, strict=True)]
    slots = [table.slots(0, seen) for table, seen in zip(tables, num_seen, strict=True)]
    starts = np.cumsum([0, *num_rows])
    written = np.concatenate([s[table.num_committed :] for s, table in zip(slots, tables, strict=True)])
    groups = []
    for members in _like_sessions(num_rows, num_seen, _CPU_CELLS if device.type == "cpu" else _ACCELERATOR_CELLS):
        most_rows, most_seen = max(num_rows[i] for i in members), max(num_seen[i] for i in members)
        rows_BR = np.full((len(members), most_rows), starts[-1])
        slots_BS = np.empty((len(members), most_seen), dtype=np.int64)
        visible_BRS = np.zeros((len(members), most_rows, most_seen), dtype=np.bool_)
        for b, i in enumerate(members):
            n, seen = num_rows[i], num_seen[i]
            rows_BR[b, :n] = np.arange(starts[i], starts[i + 1])
            slots_BS[b, :seen] = slots[i]
            # Padding repeats a slot of the session's own: 0 x inf would let another's overflow through any mask.
            slots_BS[b, seen:] = slots[i][0]
            visible_BRS[b, :n, : seen - n] = True
            visible_BRS[b, :n, seen - n : seen] = ancestry(parents[i])
        groups.append(
            Group(
                len(members),
                torch.from_numpy(rows_BR.ravel()).to(device),
                torch.from_numpy(slots_BS.ravel()).to(device),
                None if visible_BRS.all() else _bias(visible_BRS, heads_per_kv_head).to(device, dtype),
            )
        )
    return AttentionPlan(pool, torch.from_numpy(written).to(device), tuple(groups))


def ancestry(parents: Ints) -> Bools:
    """`[n, n]`: whether node j is node i itself or an ancestor of it. Parents come before their children."""
    n = len(parents)
    if is_chain(parents):
        return np.tri(n, dtype=np.bool_)
    visible = np.eye(n, dtype=np.bool_)
    for i, parent in enumerate(parents.tolist()):
        if parent >= 0:
            visible[i] |= visible[parent]
    return visible


def is_chain(parents: Ints) -> bool:
    """Whether each node follows the one before it, as in a prompt or a single drafted path."""
    return bool((parents == np.arange(-1, len(parents) - 1)).all())


def _like_sessions(num_rows: Sequence[int], num_seen: Sequence[int], max_cells: int) -> list[list[int]]:
    """Sessions in groups of like shape: neighbours in size, few cells together, and at most half of those padding."""
    groups: list[list[int]] = []
    used = 0
    for i in sorted(range(len(num_rows)), key=lambda i: (num_rows[i], num_seen[i])):
        cells = (num_rows[i] + _GATHER_ROWS) * num_seen[i]
        if groups:
            together = [*groups[-1], i]
            padded = len(together) * (num_rows[i] + _GATHER_ROWS) * max(num_seen[j] for j in together)
            if padded <= min(max_cells, 2 * (used + cells)):
                groups[-1], used = together, used + cells
                continue
        groups.append([i])
        used = cells
    return groups


def _bias(visible_BRS: Bools, heads_per_kv_head: int) -> Tensor:
    bias = np.where(visible_BRS, np.float32(0.0), np.float32(-np.inf))
    return torch.from_numpy(np.tile(bias, (1, heads_per_kv_head, 1))[:, None])


def paged_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: AttentionPlan,
    scaling: float | None = None,
    **asked: Any,  # whatever else a model's attention passes: no two models agree on it
) -> tuple[Tensor, None]:
    """Attention of one layer, as `transformers` calls it. Writes `key` and `value` to the plan's slots of that layer.

    `query` `[1, H, N, D]`; `key` and `value` `[1, Hkv, N, D]`; returns `[1, N, H, D]`. `attention_mask` is not looked
    at: the plan has the trees. Raises `Unsupported` when the model asks for what is not done here.
    """
    for name in _NOT_HONOURED:
        if asked.get(name) is not None:
            raise Unsupported(f"attention with {name} is not supported; serve a model with plain full attention")
    layer: int = module.layer_idx  # type: ignore[assignment]  # an int in every model, which torch cannot know
    keys, values = plan.pool.keys[layer], plan.pool.values[layer]
    if key.shape[1::2] != keys.shape[1:] or value.shape[1::2] != values.shape[1:]:
        raise Unsupported("keys and values of unequal or changing shapes are not supported; serve a model with plain full attention")
    keys.index_copy_(0, plan.written, key[0].transpose(0, 1))
    values.index_copy_(0, plan.written, value[0].transpose(0, 1))
    _, num_heads, num_nodes, head_dim = query.shape
    num_kv_heads = key.shape[1]
    by_node = torch.cat([query[0].transpose(0, 1), query.new_zeros(1, num_heads, head_dim)])
    out = torch.empty_like(by_node)
    for group in plan.groups:
        # Heads that share keys become rows of one head: no key is copied for them, and every kernel takes it.
        shape = (group.num_sessions, -1, num_kv_heads, num_heads // num_kv_heads, head_dim)
        q = by_node.index_select(0, group.rows).view(shape).permute(0, 2, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            q.flatten(2, 3),
            keys.index_select(0, group.slots).view(group.num_sessions, -1, num_kv_heads, head_dim).transpose(1, 2),
            values.index_select(0, group.slots).view(group.num_sessions, -1, num_kv_heads, head_dim).transpose(1, 2),
            attn_mask=group.bias,
            scale=scaling,
        )
        out.index_copy_(0, group.rows, attended.view(q.shape).permute(0, 3, 1, 2, 4).reshape(-1, num_heads, head_dim))
    return out[None, :num_nodes], None


AttentionInterface.register(IMPLEMENTATION, paged_attention)
