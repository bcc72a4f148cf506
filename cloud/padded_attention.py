"""Attention of several sessions in one call, padded to one shape: what an accelerator does fastest.

Knows segments and the slots they see; knows nothing of models or layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cloud.pages import PagePool, Slots
from cloud.segment import Segment, ancestry
from cloud.transfer import sent

# How many cells, rows x slots seen, sessions may fill together in one call. Launches are dear and cells cheap, and the
# bound is there for the memory that the gathered keys take.
_MAX_CELLS = 1 << 22
_GATHER_ROWS = 8  # gathering a slot's keys and values costs about what attending to it from 8 rows does


@dataclass(frozen=True, slots=True)
class _Group:
    """B sessions that attend in one call, padded to R rows (new nodes) and S slots.

    `rows` `[B * R]` are the nodes among the step's N, padding being N itself, a row of nobody's. `slots` `[B * S]` are
    what they see, and `bias` `[B, 1, heads_per_kv_head * R, S]` what of it: 0 or -inf, added to the scores; None when
    every row sees every slot.
    """

    num_sessions: int
    rows: Tensor
    slots: Tensor
    bias: Tensor | None


class PaddedAttention:
    """A step's attention, in groups of sessions of like shape."""

    def __init__(self, pool: PagePool, segments: Sequence[Segment], slots: Sequence[Slots], heads_per_kv_head: int) -> None:
        """`slots[i]` `[num_seen]` are those of the positions that segment i sees, its own last."""
        device, dtype = pool.keys.device, pool.keys.dtype
        num_rows = [len(segment.tokens) for segment in segments]
        num_seen = [seen.size for seen in slots]
        starts = np.cumsum([0, *num_rows])
        self._groups: list[_Group] = []
        for members in like_sessions(num_rows, num_seen, _MAX_CELLS):
            most_rows, most_seen = max(num_rows[i] for i in members), max(num_seen[i] for i in members)
            rows_BR = np.full((len(members), most_rows), starts[-1])
            slots_BS = np.empty((len(members), most_seen), dtype=np.int64)
            visible_BRS = np.zeros((len(members), most_rows, most_seen), dtype=np.bool_)
            for b, i in enumerate(members):
                n, seen, past = num_rows[i], num_seen[i], segments[i].table.num_committed
                rows_BR[b, :n] = np.arange(starts[i], starts[i + 1])
                slots_BS[b, :seen] = slots[i]
                # Padding repeats a slot of the session's own: 0 x inf would let another's overflow through any mask.
                slots_BS[b, seen:] = slots[i][0]
                visible_BRS[b, :n, :past] = True
                visible_BRS[b, :n, past:seen] = ancestry(segments[i].parents, segments[i].num_before)
            bias = None if visible_BRS.all() else _bias(visible_BRS, heads_per_kv_head).to(device, dtype)
            rows, seen_slots = (sent(x.ravel(), device) for x in (rows_BR, slots_BS))
            self._groups.append(_Group(len(members), rows, seen_slots, bias))

    def __call__(self, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """As `cloud.attention.Attend` says."""
        num_heads, num_nodes, head_dim = query.shape
        num_kv_heads = len(keys)
        by_node = torch.cat([query.transpose(0, 1), query.new_zeros(1, num_heads, head_dim)])
        out = torch.empty_like(by_node)
        for group in self._groups:
            # Heads that share keys become rows of one head: no key is copied for them, and every kernel takes it.
            shape = (group.num_sessions, -1, num_kv_heads, num_heads // num_kv_heads, head_dim)
            q = by_node.index_select(0, group.rows).view(shape).permute(0, 2, 3, 1, 4)
            k, v = (
                x.index_select(1, group.slots).view(num_kv_heads, group.num_sessions, -1, head_dim).transpose(0, 1) for x in (keys, values)
            )
            attended = F.scaled_dot_product_attention(q.flatten(2, 3), k, v, attn_mask=group.bias, scale=scale)
            out.index_copy_(0, group.rows, attended.view(q.shape).permute(0, 3, 1, 2, 4).reshape(-1, num_heads, head_dim))
        return out[:num_nodes]


def like_sessions(num_rows: Sequence[int], num_seen: Sequence[int], max_cells: int) -> list[list[int]]:
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


def _bias(visible_BRS: NDArray[np.bool_], heads_per_kv_head: int) -> Tensor:
    bias = np.where(visible_BRS, np.float32(0.0), np.float32(-np.inf))
    return torch.from_numpy(np.tile(bias, (1, heads_per_kv_head, 1))[:, None])
