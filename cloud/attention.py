"""Attention of a packed step over paged keys and values, for any `transformers` model that asks `AttentionInterface`.

All sessions' new nodes come as one row `[1, N]`. `AttentionPlan` says, once a step, where each node's keys and values
are written and how the nodes attend to what they may see; every layer follows the same plan. Knows pages and segments;
knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface

from cactus_core.errors import Unsupported
from cloud.pages import PagePool, Slots
from cloud.ragged_attention import RaggedAttention
from cloud.segment import Segment
from cloud.tiles import TILE_ROWS
from cloud.transfer import sent

IMPLEMENTATION = "cactus_paged"

# What a model may ask of its attention beyond scaled dot products, and would not get here.
_NOT_HONOURED = ("sliding_window", "softcap", "s_aux", "position_bias")


class Attend(Protocol):
    """A step's attention in one layer: what each node may see of the keys and values written so far, its own included."""

    def __call__(self, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """`query` `[H, N, D]`; `keys` and `values` `[Hkv, num_slots, D]`; returns `[N, H, D]`."""


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """One step's attention, followed by every layer. `written` `[N]` are the slots of the step's nodes."""

    pool: PagePool
    written: Tensor
    attend: Attend

    def write_and_attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention of one layer `[N, H, D]`, to what was written before and to `key` and `value` `[Hkv, N, D]`, which it writes.

        `query` `[H, N, D]`.
        """
        keys, values = self.pool.keys[layer], self.pool.values[layer]
        keys.index_copy_(1, self.written, key)
        values.index_copy_(1, self.written, value)
        return self.attend(query, keys, values, scale)


def plan_attention(segments: Sequence[Segment], *, heads_per_kv_head: int) -> AttentionPlan:
    """The plan of a step. Each node sees its table's committed text, its ancestors and itself.

    The tables, of one pool and none of them twice, have reserved the nodes' positions. A CPU attends to each session by
    itself, where its keys lie; a GPU to all of them in one launch.
    """
    pool = segments[0].table.pool
    device = pool.keys.device
    slots, written = slots_of(segments)
    attend = _attention(device, heads_per_kv_head)(pool, segments, slots, heads_per_kv_head)
    return AttentionPlan(pool, sent(written, device), attend)


def _attention(device: torch.device, heads_per_kv_head: int) -> Callable[[PagePool, Sequence[Segment], Sequence[Slots], int], Attend]:
    if device.type == "cpu":
        return RaggedAttention
    if has_kernels(device, heads_per_kv_head):
        from cloud.tiled_attention import TiledAttention

        return TiledAttention.of
    from cloud.padded_attention import PaddedAttention

    return PaddedAttention


def slots_of(segments: Sequence[Segment]) -> tuple[list[Slots], Slots]:
    """The slots of the positions that each segment sees, and those of the step's nodes `[N]`, which are the last of these."""
    seen = [segment.table.slots(0, segment.num_seen) for segment in segments]
    return seen, np.concatenate([own[-len(segment.tokens) :] for segment, own in zip(segments, seen, strict=True)])


def has_kernels(device: torch.device, heads_per_kv_head: int) -> bool:
    """Whether attention runs by cloud/tile_kernels.py there."""
    return device.type == "cuda" and heads_per_kv_head <= TILE_ROWS and find_spec("triton") is not None


@torch.compiler.disable  # type: ignore[untyped-decorator]  # its writes and kernels stay as they are when layers are compiled
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
    own_shape = plan.pool.keys.shape[1::2]
    if key.shape[1::2] != own_shape or value.shape[1::2] != own_shape:
        raise Unsupported("keys and values of unequal or changing shapes are not supported; serve a model with plain full attention")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return plan.write_and_attend(layer, query[0], key[0], value[0], scale)[None], None


AttentionInterface.register(IMPLEMENTATION, paged_attention)
