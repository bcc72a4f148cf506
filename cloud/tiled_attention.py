"""Attention on a GPU: every layer runs one kernel over the step's tiles, whatever the sessions' lengths and trees are.

Knows tiles and tensors; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from cloud.pages import PagePool, Slots
from cloud.segment import Segment
from cloud.tile_kernels import attend_tiles
from cloud.tiles import Tiles, tiles_of
from cloud.transfer import sent

_PROGRAMS = 256  # that keep a GPU busy; with fewer tiles, several share what a tile sees
_LONG = 256  # positions: less is not worth sharing
SPLITS = 8


@dataclass(frozen=True, slots=True)
class TiledAttention:
    """`work`, `pages` and `masks` are those of `Tiles`, on the device. `num_splits` programs share what each tile sees."""

    work: Tensor
    pages: Tensor
    masks: Tensor
    num_splits: int

    @classmethod
    def of(cls, pool: PagePool, segments: Sequence[Segment], slots: Sequence[Slots], heads_per_kv_head: int) -> Self:
        tiles = tiles_of(segments, slots, heads_per_kv_head)
        work, pages, masks = (sent(part, pool.keys.device) for part in (tiles.work, tiles.pages, tiles.masks))
        return cls(work, pages, masks, num_splits_for(tiles, pool))

    def __call__(self, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """As `cloud.attention.Attend` says."""
        return attend_tiles(query, keys, values, scale, self.work, self.pages, self.masks, self.num_splits)


def num_splits_for(tiles: Tiles, pool: PagePool) -> int:
    """1, or `SPLITS` for few tiles over long texts."""
    num_programs = len(tiles.work) * pool.keys.shape[1]
    return SPLITS if num_programs < _PROGRAMS and tiles.num_seen > _LONG else 1
