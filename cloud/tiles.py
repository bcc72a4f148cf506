"""A step's attention cut into tiles: what one program of a GPU's kernel attends with, and to what.

Knows segments and the slots they see; knows nothing of kernels, models or layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.pages import PAGE_SIZE, Slots
from cloud.segment import Segment, ancestry

Int32s = NDArray[np.int32]

TILE_ROWS = 32  # nodes x heads that share keys
TILE_FIELDS = 5  # first row, nodes, where its pages begin, committed positions, positions that its last node may see
WORD = 32  # nodes that a word of a mask speaks of


@dataclass(frozen=True, slots=True)
class Tiles:
    """`work` `[T, 5]` has the fields of each tile, `pages` `[P]` the sessions' pages, one session's after the other's. `masks` `[N, W]`
    tells, bit by bit from the lowest, which of its session's nodes (positions after the committed ones) each of N new nodes sees.
    """

    work: Int32s
    pages: Int32s
    masks: Int32s

    @property
    def num_seen(self) -> int:
        """The most that any tile sees."""
        return int(self.work[:, 4].max())


def tiles_of(segments: Sequence[Segment], slots: Sequence[Slots], heads_per_kv_head: int) -> Tiles:
    """`slots[i]` `[num_seen]` are those of the positions that segment i sees, its own last."""
    num_words = -(-max(segment.parents.size for segment in segments) // WORD)
    per_tile = max(1, TILE_ROWS // heads_per_kv_head)
    work: list[tuple[int, int, int, int, int]] = []
    pages: list[NDArray[np.int64]] = []
    masks = np.zeros((sum(len(segment.tokens) for segment in segments), num_words), dtype=np.uint32)
    row = first_page = 0
    for segment, seen in zip(segments, slots, strict=True):
        n, before, past = len(segment.tokens), segment.num_before, segment.table.num_committed
        for first in range(0, n, per_tile):
            last = min(first + per_tile, n)
            work.append((row + first, last - first, first_page, past, past + before + last))  # a parent comes before its children
        pages.append(seen[::PAGE_SIZE] // PAGE_SIZE)
        _mark(masks[row : row + n], segment)
        row, first_page = row + n, first_page + len(pages[-1])
    return Tiles(np.array(work, dtype=np.int32), np.concatenate(pages).astype(np.int32), masks.view(np.int32))


def _mark(masks: NDArray[np.uint32], segment: Segment) -> None:
    n, before = len(segment.tokens), segment.num_before
    if segment.is_chain:
        num_visible = np.arange(before + 1, before + n + 1)[:, None] - WORD * np.arange(masks.shape[1])
        masks[:] = (1 << num_visible.clip(0, WORD)) - 1
        return
    bits = np.packbits(ancestry(segment.parents, before), axis=1, bitorder="little")
    masks.view(np.uint8)[:, : bits.shape[1]] = bits
