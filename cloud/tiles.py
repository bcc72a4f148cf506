"""A step's attention cut into tiles: what one program of a GPU's kernel attends with, and to what.

Knows segments and the slots they see; knows nothing of kernels, models or layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.pages import PAGE_SIZE, Slots
from cloud.segment import Segment

Int32s = NDArray[np.int32]

TILE_ROWS = 64  # nodes x heads that share keys
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
    # As chains see: each node itself and all before it.
    num_visible = np.concatenate([segment.depths for segment in segments])[:, None] + 1 - WORD * np.arange(num_words)
    masks = ((1 << num_visible.clip(0, WORD)) - 1).astype(np.uint32)
    row = first_page = 0
    for segment, seen in zip(segments, slots, strict=True):
        n, before, past = len(segment.tokens), segment.num_before, segment.table.num_committed
        for first in range(0, n, per_tile):
            last = min(first + per_tile, n)
            work.append((row + first, last - first, first_page, past, past + before + last))  # a parent comes before its children
        pages.append(seen[::PAGE_SIZE] // PAGE_SIZE)
        if not segment.is_chain:
            masks[row : row + n] = _ancestors(segment.parents, before, num_words)
        row, first_page = row + n, first_page + len(pages[-1])
    return Tiles(np.array(work, dtype=np.int32), np.concatenate(pages).astype(np.int32), masks.view(np.int32))


def _ancestors(parents: NDArray[np.int64], first: int, num_words: int) -> NDArray[np.uint32]:
    """`[n - first, num_words]`, for the nodes from `first` on: the bits of the node itself and of its ancestors."""
    seen: list[int] = []
    for node, parent in enumerate(parents.tolist()):  # trees are small: whole masks as Python's integers are faster than arrays
        seen.append((seen[parent] if parent >= 0 else 0) | 1 << node)
    bits = b"".join(each.to_bytes(num_words * WORD // 8, "little") for each in seen[first:])
    return np.frombuffer(bits, dtype="<u4").reshape(-1, num_words)
