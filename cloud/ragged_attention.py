"""Attention to each session by itself, unpadded, over keys and values where they lie: what a CPU does fastest.

Knows segments and the slots they see; knows nothing of models or layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from cloud.pages import PagePool, Slots
from cloud.segment import Segment, ancestry

_MAX_NODES = 64  # that attend together: their scores stay in the cache, and a prompt's node is spared most of what follows it
_SMALL_BYTES = 1 << 18  # of a layer's keys and values: copying so many costs about what a session's own calls would


class RaggedAttention:
    """A step's attention, session by session.

    A session whose slots follow one another is read where it lies, the others from copies, one a layer. Short texts that
    plain decoding continues go together, copied in any case: a call a session would cost more.
    """

    def __init__(self, pool: PagePool, segments: Sequence[Segment], slots: Sequence[Slots], heads_per_kv_head: int) -> None:
        """`slots[i]` `[num_seen]` are those of the positions that segment i sees, its own last."""
        ends = np.cumsum([len(segment.tokens) for segment in segments])
        most_seen = _SMALL_BYTES // (2 * pool.keys[0, :, 0].nbytes)
        short = [i for i, segment in enumerate(segments) if slots[i].size <= most_seen and _decodes(segment)]
        self._short = _ShortTexts(pool, [slots[i] for i in short]) if short else None
        self._parts: list[_Part] = []
        scattered: list[Slots] = []
        for i in sorted({*range(len(segments))} - {*short}):
            is_run = bool((slots[i] == np.arange(slots[i][0], slots[i][0] + slots[i].size)).all())
            first = int(slots[i][0]) if is_run else sum(seen.size for seen in scattered)
            self._parts += _parts(segments[i], first, is_copied=not is_run, heads_per_kv_head=heads_per_kv_head, dtype=pool.keys.dtype)
            if not is_run:
                scattered.append(slots[i])
        self._scattered = _Copies(pool, np.concatenate(scattered)) if scattered else None
        self._num_nodes = [*[len(short)] * bool(short), *(part.num_nodes for part in self._parts)]
        self._order = self._restored = None
        if short and self._parts:  # the short texts' nodes come first
            decoding = ends[short] - 1
            order = np.concatenate([decoding, np.setdiff1d(np.arange(ends[-1]), decoding)])
            self._order, self._restored = torch.from_numpy(order), torch.from_numpy(order.argsort())

    def __call__(self, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """As `cloud.attention.Attend` says."""
        # Heads that share keys become rows of one head, [Hkv, N, G, D]: no key is copied for them.
        by_node = query.view(len(keys), -1, *query.shape[1:]).transpose(1, 2)
        rows = torch.mul(by_node, scale, out=torch.empty(by_node.shape, dtype=query.dtype))
        if self._order is not None:
            rows = rows.index_select(1, self._order)
        in_place = keys, values
        copied = self._scattered(keys, values) if self._scattered is not None else in_place
        queries = iter(torch.split(rows, self._num_nodes, 1))
        attended = []
        if self._short is not None:
            attended.append(self._short.attend(next(queries), keys, values))
        for part, q in zip(self._parts, queries, strict=True):
            attended.append(part.attend(q, *(copied if part.is_copied else in_place)))
        out = torch.cat(attended, 1)
        if self._restored is not None:
            out = out.index_select(1, self._restored)
        return out.transpose(0, 1).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class _Part:
    """n nodes of one session that attend together, to keys and values `start .. stop - 1`, the pool's own or copies.

    `bias` `[n * heads_per_kv_head, stop - start]` is what they see: 0 or -inf, added to the scores; None when they see all.
    """

    num_nodes: int
    start: int
    stop: int
    bias: Tensor | None
    is_copied: bool

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """`query` `[Hkv, n, G, D]`, as is what is returned."""
        k, v = (x[None, :, self.start : self.stop] for x in (keys, values))
        return scaled_dot_product_attention(query.flatten(1, 2)[None], k, v, attn_mask=self.bias, scale=1.0).view(query.shape)


class _ShortTexts:
    """B sessions of one node each, which attend together to copies of their keys, padded to one length."""

    def __init__(self, pool: PagePool, slots: Sequence[Slots]) -> None:
        num_seen = np.array([seen.size for seen in slots])
        places = np.arange(num_seen.max())
        # Padding repeats a slot of the session's own: 0 x inf would let another's overflow through any mask.
        slots_BS = np.stack([seen.take(places, mode="clip") for seen in slots])
        self._copies = _Copies(pool, slots_BS.ravel())
        visible_BS = places < num_seen[:, None]
        self._bias = None if visible_BS.all() else _bias(visible_BS, pool.keys.dtype)[:, None]

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """`query` `[Hkv, B, G, D]`, as is what is returned."""
        # By so few nodes each, two batched products are up to twice as fast as torch's own attention.
        num_kv_heads, num_sessions, _, head_dim = query.shape
        k, v = (x.view(num_kv_heads * num_sessions, -1, head_dim) for x in self._copies(keys, values))
        scores = torch.bmm(query.flatten(0, 1), k.transpose(1, 2))
        if self._bias is not None:
            scores.view(num_kv_heads, num_sessions, -1, k.shape[1]).add_(self._bias)
        return torch.bmm(scores.softmax(-1, dtype=torch.float32).to(scores.dtype), v).view(query.shape)


class _Copies:
    """Copies of some slots' keys and values, for each layer in the same memory."""

    def __init__(self, pool: PagePool, slots: Slots) -> None:
        _, num_kv_heads, num_slots, head_dim = pool.keys.shape
        # Heads and slots are taken as one axis, the first: along others torch copies several times as slowly.
        self._index = torch.from_numpy((np.arange(num_kv_heads)[:, None] * num_slots + slots).ravel())
        self._copies = torch.empty(2, self._index.numel(), head_dim, dtype=pool.keys.dtype)

    def __call__(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `[Hkv, num, D]`, good until the next call."""
        for x, copy in zip((keys, values), self._copies, strict=True):
            torch.index_select(x.flatten(0, 1), 0, self._index, out=copy)
        k, v = self._copies.view(2, len(keys), -1, keys.shape[-1])
        return k, v


def _decodes(segment: Segment) -> bool:
    return len(segment.tokens) == 1 and segment.is_chain


def _parts(segment: Segment, first: int, *, is_copied: bool, heads_per_kv_head: int, dtype: torch.dtype) -> Iterator[_Part]:
    """A segment's nodes in parts of `_MAX_NODES`, its positions' keys lying from `first` on."""
    past, before = segment.table.num_committed, segment.num_before
    whole = None if segment.is_chain else ancestry(segment.parents, before)
    for start in range(before, segment.parents.size, _MAX_NODES):
        stop = min(start + _MAX_NODES, segment.parents.size)
        own = np.tri(stop - start, stop, start, dtype=np.bool_) if whole is None else whole[start - before : stop - before, :stop]
        visible = np.pad(own, ((0, 0), (past, 0)), constant_values=True)
        bias = None if own.all() else _bias(visible.repeat(heads_per_kv_head, 0), dtype)
        yield _Part(stop - start, first, first + past + stop, bias, is_copied)


def _bias(visible: NDArray[np.bool_], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.where(visible, np.float32(0.0), np.float32(-np.inf))).to(dtype)
