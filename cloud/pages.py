"""Keys and values in pages: how many sessions of unequal length share one block of memory.

Knows tensors, slots and counts; knows nothing of models, tokens or attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cactus_core.errors import LimitExceeded

Slots = NDArray[np.int64]

PAGE_SIZE = 16  # positions a page; half a page is wasted per session on average


class PagePool:
    """All keys and values of one model: `keys` and `values`, each `[num_layers, num_slots, num_kv_heads, head_dim]`.

    A slot holds one position of one session in every layer; page i is slots `16 i .. 16 i + 15`. A page is either free or
    taken, and only who took it may write there. A slot that was never written since its page was taken must not be read.
    """

    def __init__(
        self,
        num_pages: int,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_pages < 1:
            raise ValueError(f"a pool needs at least 1 page, not {num_pages}")
        shape = (num_layers, num_pages * PAGE_SIZE, num_kv_heads, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self._free = list(range(num_pages - 1, -1, -1))
        self._is_taken = [False] * num_pages

    @property
    def num_pages(self) -> int:
        return len(self._is_taken)

    @property
    def num_free_pages(self) -> int:
        return len(self._free)

    def allocate(self, num_pages: int) -> list[int]:
        """Takes pages. Raises `LimitExceeded`, having taken none, when fewer are free."""
        if num_pages > len(self._free):
            raise LimitExceeded(
                f"the verifier's memory is full: {num_pages} more pages are needed and {len(self._free)} of {self.num_pages} "
                "are free; wait for other requests to end, or give the pool more pages"
            )
        pages = [self._free.pop() for _ in range(num_pages)]
        for page in pages:
            self._is_taken[page] = True
        return pages

    def release(self, pages: Iterable[int]) -> None:
        """Gives pages back. Raises `ValueError` at a page that is free already: two owners would write over each other."""
        for page in pages:
            if not self._is_taken[page]:
                raise ValueError(f"page {page} is free already")
            self._is_taken[page] = False
            self._free.append(page)


class PageTable:
    """Where one session's positions lie in a pool.

    Positions `0 .. num_committed - 1` are the text that stands. Those from there to `num_reserved - 1` are a step's drafted
    nodes in the order they were given, which need not be the order of any text. Always: `num_committed <= num_reserved`,
    and exactly `num_pages = ceil(num_reserved / 16)` pages are held, none of them shared with another table.
    """

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self._pages: list[int] = []
        self._num_committed = 0
        self._num_reserved = 0

    @property
    def num_committed(self) -> int:
        return self._num_committed

    @property
    def num_reserved(self) -> int:
        return self._num_reserved

    @property
    def num_pages(self) -> int:
        return len(self._pages)

    def reserve(self, total: int) -> None:
        """Makes room for positions `0 .. total - 1`. Raises `LimitExceeded`, changing nothing, when pages run out."""
        reserve_all([(self, total)])

    def rollback(self, num_committed: int) -> None:
        """Keeps the first `num_committed` committed positions and nothing else. Costs as many steps as pages freed."""
        if not 0 <= num_committed <= self._num_committed:
            raise ValueError(f"cannot roll back to {num_committed} of {self._num_committed} committed positions")
        self._keep(num_committed)

    def commit(self, path: Sequence[int]) -> None:
        """Keeps the nodes of `path` as the text's next positions; see `commit_paths`."""
        commit_paths(self.pool, [(self, path)])

    def release(self) -> None:
        """Gives all pages back and is as new. A second release finds nothing to give."""
        self._keep(0)

    def slots(self, start: int, stop: int) -> Slots:
        """The pool's slots of positions `start .. stop - 1`, `[stop - start]`."""
        if not 0 <= start <= stop <= self._num_reserved:
            raise ValueError(f"positions {start}..{stop} are not within the {self._num_reserved} reserved ones")
        positions = np.arange(start, stop)
        pages = np.array(self._pages, dtype=np.int64)
        return pages[positions // PAGE_SIZE] * PAGE_SIZE + positions % PAGE_SIZE

    def _keep(self, num_positions: int) -> None:
        self._num_committed = self._num_reserved = num_positions
        num_pages = _pages_for(num_positions)
        surplus, self._pages = self._pages[num_pages:], self._pages[:num_pages]
        self.pool.release(surplus)

    def _grow(self, total: int, pages: list[int]) -> None:
        self._pages += pages
        self._num_reserved = max(self._num_reserved, total)


def reserve_all(wanted: Sequence[tuple[PageTable, int]]) -> None:
    """Reserves for several distinct tables of one pool. Raises `LimitExceeded`, changing none, when pages run out."""
    if not wanted:
        return
    missing = [max(0, _pages_for(total) - table.num_pages) for table, total in wanted]
    pages = wanted[0][0].pool.allocate(sum(missing))
    for (table, total), count in zip(wanted, missing, strict=True):
        table._grow(total, pages[:count])  # noqa: SLF001  # one module, one noun: nobody else may
        pages = pages[count:]


def commit_paths(pool: PagePool, paths: Sequence[tuple[PageTable, Sequence[int]]]) -> None:
    """Keeps one drafted path of each table and frees the rest of its pages.

    A path names nodes by their place after `num_committed`, from the root to the leaf, so it only ever rises. Its keys
    and values move down to the positions that they have in the text: one gather and one scatter for all tables and
    layers, and none where every path is `0, 1, 2, ...` already. Raises `ValueError`, changing nothing, for a path that
    is not within the reserved nodes. Each table comes once.
    """
    sources: list[Slots] = []
    targets: list[Slots] = []
    for table, path in paths:
        nodes = np.asarray(path, dtype=np.int64)
        num_nodes = table.num_reserved - table.num_committed
        if nodes.size == 0:
            continue
        if nodes[0] < 0 or nodes[-1] >= num_nodes or (np.diff(nodes) <= 0).any():
            raise ValueError(f"not a path of rising nodes within the {num_nodes} reserved: {nodes.tolist()}")
        moved = np.flatnonzero(nodes != np.arange(nodes.size))
        if moved.size:
            slots = table.slots(table.num_committed, table.num_reserved)
            sources.append(slots[nodes[moved]])
            targets.append(slots[moved])
    if sources:
        source = torch.from_numpy(np.concatenate(sources)).to(pool.keys.device)
        target = torch.from_numpy(np.concatenate(targets)).to(pool.keys.device)
        for tensor in (pool.keys, pool.values):
            # A source may be another node's target: everything is read before anything is written.
            tensor.index_copy_(1, target, tensor.index_select(1, source))
    for table, path in paths:
        table._keep(table.num_committed + len(path))  # noqa: SLF001  # as above


def _pages_for(num_positions: int) -> int:
    return -(-num_positions // PAGE_SIZE)
