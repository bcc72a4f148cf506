"""A GPU's attention over paged keys and values, tile by tile, in Triton.

Knows pointers and tiles (cloud/tiles.py); knows nothing of sessions, models or steps. Needs Triton, which PyTorch's CUDA builds bring;
on a CPU its interpreter runs the same code, for tests.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cloud.pages import PAGE_SIZE
from cloud.tiles import TILE_FIELDS, TILE_ROWS

_BLOCK_BYTES = 1 << 14  # of keys that are read at a time: with as many values, and both twice, in a multiprocessor's own memory
_BLOCK, _NODES = 64, 32  # positions of the text, and nodes, that are read at a time, at most
_IN_FLIGHT = 2  # blocks: the next is on its way while one is attended to
_LOG2_E = 1.4426950408889634


def attend_tiles(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, work: Tensor, pages: Tensor, masks: Tensor, num_splits: int
) -> Tensor:
    """`query` `[H, N, D]`; `keys` and `values` `[Hkv, num_slots, D]`; `work`, `pages` and `masks` as in `Tiles`, int32. Returns
    `[N, H, D]`, where rows of no tile are undefined. With `num_splits` above 1 so many programs share what each tile sees.
    """
    num_heads, num_rows, head_dim = query.shape
    num_kv_heads = len(keys)
    out = torch.empty(num_rows, num_heads, head_dim, dtype=query.dtype, device=query.device)
    split, padded_dim = num_splits > 1, max(16, triton.next_power_of_2(head_dim))  # a product needs 16 of everything
    parts = torch.empty(num_splits, num_rows, num_heads, head_dim, dtype=torch.float32, device=query.device) if split else out
    weights = torch.empty(num_splits, num_rows, num_heads, dtype=torch.float32, device=query.device) if split else out
    block = min(_BLOCK, max(PAGE_SIZE, _BLOCK_BYTES // (padded_dim * keys.element_size())))
    grid = (len(work), num_kv_heads, num_splits)
    _attend[grid](
        query, keys, values, parts, weights, work, pages, masks,
        scale * _LOG2_E, query.stride(0), query.stride(1), keys.stride(0), keys.stride(1), masks.stride(0), num_rows,
        NUM_HEADS=num_heads, GROUP=num_heads // num_kv_heads, DIM=head_dim, DIM_PADDED=padded_dim, ROWS=TILE_ROWS,
        BLOCK=block, NODES=min(_NODES, block), PAGE=PAGE_SIZE, FIELDS=TILE_FIELDS, SPLITS=num_splits, IN_FLIGHT=_IN_FLIGHT, num_warps=4,
    )  # fmt: skip
    if split:
        _merge[num_rows, num_heads](
            parts, weights, out, num_rows, NUM_HEADS=num_heads, DIM=head_dim, DIM_PADDED=padded_dim, SPLITS=num_splits
        )
    return out


@triton.jit
def _attend(
    query, keys, values, out, weights, work, pages, masks,
    scale, query_head, query_row, kv_head_stride, kv_slot_stride, mask_words, num_rows,
    NUM_HEADS: tl.constexpr, GROUP: tl.constexpr, DIM: tl.constexpr, DIM_PADDED: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, NODES: tl.constexpr, PAGE: tl.constexpr, FIELDS: tl.constexpr, SPLITS: tl.constexpr, IN_FLIGHT: tl.constexpr,
) -> None:  # fmt: skip
    """Weights are powers of 2: `scale` says so."""
    tile = work + tl.program_id(0) * FIELDS
    num_nodes = tl.load(tile + 1)
    if num_nodes == 0:  # padding
        return
    first_row, first_page, num_committed, num_seen = tl.load(tile), tl.load(tile + 2), tl.load(tile + 3), tl.load(tile + 4)
    kv_head, split = tl.program_id(1), tl.program_id(2)
    lane = tl.arange(0, ROWS)
    row = first_row + lane // GROUP  # heads that share keys are rows of one tile
    head = kv_head * GROUP + lane % GROUP
    is_row = lane // GROUP < num_nodes
    dim = tl.arange(0, DIM_PADDED)
    is_dim = dim < DIM
    q = tl.load(query + head[:, None] * query_head + row[:, None] * query_row + dim, mask=is_row[:, None] & is_dim, other=0.0)
    keys += kv_head.to(tl.int64) * kv_head_stride
    values += kv_head.to(tl.int64) * kv_head_stride
    pages += first_page
    highest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    summed = tl.zeros([ROWS, DIM_PADDED], tl.float32)
    span = tl.cdiv(tl.cdiv(num_seen, SPLITS), BLOCK) * BLOCK
    first = split * span
    stop = tl.minimum(num_seen, first + span)
    # The text, which every node sees: whole pages at a time.
    text_stop = tl.minimum(stop, num_committed)
    for start in tl.range(first, text_stop, BLOCK, num_stages=IN_FLIGHT):
        is_seen = start + tl.arange(0, BLOCK) < text_stop
        number = start // PAGE + tl.arange(0, BLOCK // PAGE)
        page = tl.load(pages + number, mask=number * PAGE < text_stop, other=0)
        slot = tl.reshape(page[:, None] * PAGE + tl.arange(0, PAGE)[None, :], [BLOCK]).to(tl.int64)
        at = slot[:, None] * kv_slot_stride + dim
        k = tl.load(keys + at, mask=is_seen[:, None] & is_dim, other=0.0)
        v = tl.load(values + at, mask=is_seen[:, None] & is_dim, other=0.0)
        scores = tl.where(is_seen[None, :], tl.dot(q, tl.trans(k), input_precision="ieee") * scale, float("-inf"))
        rising = tl.maximum(highest, tl.max(scores, 1))
        weight = tl.exp2(scores - rising[:, None])
        shrink = tl.exp2(highest - rising)
        summed = summed * shrink[:, None] + tl.dot(weight.to(v.dtype), v, input_precision="ieee")
        total = total * shrink + tl.sum(weight, 1)
        highest = rising
    # The nodes after it, of which each sees its own.
    for start in tl.range(tl.maximum(first, num_committed), stop, NODES, num_stages=1):
        position = start + tl.arange(0, NODES)
        is_seen = position < stop
        slot = tl.load(pages + position // PAGE, mask=is_seen, other=0).to(tl.int64) * PAGE + position % PAGE
        at = slot[:, None] * kv_slot_stride + dim
        k = tl.load(keys + at, mask=is_seen[:, None] & is_dim, other=0.0)
        v = tl.load(values + at, mask=is_seen[:, None] & is_dim, other=0.0)
        node = position - num_committed
        words = tl.load(masks + row[:, None] * mask_words + node // 32, mask=is_row[:, None] & is_seen, other=0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where(((words >> (node % 32)) & 1) == 1, scores, float("-inf"))
        rising = tl.maximum(highest, tl.max(scores, 1))
        above = tl.where(rising == float("-inf"), 0.0, rising)  # nothing is visible yet: without it -inf less -inf
        weight = tl.exp2(scores - above[:, None])
        shrink = tl.exp2(highest - above)
        summed = summed * shrink[:, None] + tl.dot(weight.to(v.dtype), v, input_precision="ieee")
        total = total * shrink + tl.sum(weight, 1)
        highest = rising
    place = row * NUM_HEADS + head
    mean = summed / tl.where(total > 0.0, total, 1.0)[:, None]
    if SPLITS > 1:
        place += split * num_rows * NUM_HEADS
        seen_any = total > 0.0
        tl.store(weights + place, tl.where(seen_any, highest + tl.log2(tl.where(seen_any, total, 1.0)), float("-inf")), mask=is_row)
    tl.store(out + place.to(tl.int64)[:, None] * DIM + dim, mean.to(out.dtype.element_ty), mask=is_row[:, None] & is_dim)


@triton.jit
def _merge(
    parts, weights, out, num_rows,
    NUM_HEADS: tl.constexpr, DIM: tl.constexpr, DIM_PADDED: tl.constexpr, SPLITS: tl.constexpr,
) -> None:  # fmt: skip
    place = tl.program_id(0) * NUM_HEADS + tl.program_id(1)
    dim = tl.arange(0, DIM_PADDED)
    at = tl.arange(0, SPLITS) * num_rows * NUM_HEADS + place
    weight = tl.load(weights + at)
    weight = tl.exp2(weight - tl.max(weight, 0))
    part = tl.load(parts + at.to(tl.int64)[:, None] * DIM + dim, mask=dim < DIM, other=0.0)
    mean = tl.sum(part * weight[:, None], 0) / tl.sum(weight, 0)
    tl.store(out + place.to(tl.int64) * DIM + dim, mean.to(out.dtype.element_ty), mask=dim < DIM)
