"""Keys and values in pages: how many sessions of unequal length share one block of memory, and what their texts have in common.

Knows tensors, slots, counts and who holds what; knows nothing of models or attention, and of tokens only that equal ones
in equal places make equal pages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cactus_core.errors import LimitExceeded
from cloud.free_pages import FreePages
from cloud.prefixes import PrefixCache, page_key, scope_key
from cloud.transfer import sent

Slots = NDArray[np.int64]

PAGE_SIZE = 16  # positions a page; half a page is wasted per session on average


class PagePool:
    """All keys and values of one model: `keys` and `values`, each `[num_layers, num_kv_heads, num_slots, head_dim]`.

    A slot holds one position of a text in every layer; page i is slots `16 i .. 16 i + 15`. A page is free, or held, or held
    by nobody and still known by its content, until its room is wanted. Several may hold a page that is known by its content,
    and nobody writes there; a held page that is not known has one holder, who may. A slot that was never written since its
    page was allocated must not be read. `spare_slot`, of no page, takes what nobody will read.
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
        self.spare_slot = num_pages * PAGE_SIZE
        shape = (num_layers, num_kv_heads, self.spare_slot + 1, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self._num_holders = [0] * num_pages
        self._free = FreePages(num_pages)
        self._known = PrefixCache()

    @staticmethod
    def page_bytes(*, num_layers: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
        """The memory that each page of such a pool takes."""
        return 2 * num_layers * PAGE_SIZE * num_kv_heads * head_dim * dtype.itemsize

    @property
    def num_pages(self) -> int:
        return len(self._num_holders)

    @property
    def num_free_pages(self) -> int:
        """Pages that can be had: those that nobody holds."""
        return len(self._free) + self._known.num_idle

    def recent_keys(self, num_keys: int) -> list[bytes]:
        """Of at most so many pages that are known by their content, those that were used last. Any thread may ask."""
        return self._known.recent(num_keys)

    def check_room(self, num_pages: int) -> None:
        """Raises `LimitExceeded` when too many pages are held for so many more."""
        if num_pages > self.num_free_pages:
            raise LimitExceeded(
                f"the verifier's memory is full: {num_pages} more pages are needed and {self.num_free_pages} of {self.num_pages} "
                "are free; wait for other requests to end, or give the pool more pages"
            )

    def allocate(self, num_pages: int, after: int | None = None) -> list[int]:
        """Takes pages of unknown content: free ones first, then those known ones that were held least recently.

        They continue the run after page `after` as far as they can. Raises `LimitExceeded`, having taken none, when too many
        pages are held.
        """
        self.check_room(num_pages)
        while len(self._free) < num_pages:
            self._free.put(self._known.forget_oldest())
        pages = self._free.take(num_pages, after)
        for page in pages:
            self._num_holders[page] = 1
        return pages

    def release(self, pages: Sequence[int]) -> None:
        """Lets go of a text's pages, given in its order. Raises `ValueError` at a page that nobody holds."""
        for page in reversed(pages):  # of a text's known pages the last must be forgotten first
            if not self._num_holders[page]:
                raise ValueError(f"page {page} is free already")
            self._num_holders[page] -= 1
            if not self._num_holders[page]:
                if page in self._known:
                    self._known.idle(page)
                else:
                    self._free.put(page)

    def hold_known(self, key: bytes) -> int | None:
        """Takes hold of the page that is known by `key`, if there is one."""
        page = self._known.find(key)
        if page is not None:
            if not self._num_holders[page]:
                self._known.wake(page)
            self._num_holders[page] += 1
        return page

    def make_known(self, page: int, key: bytes) -> int:
        """The page that is known by `key` from now on, which the holder of `page` holds in its place: `page` itself, written
        in full, or one of the same content that was known before.
        """
        known = self.hold_known(key)
        if known is None:
            self._known.learn(key, page)
            return page
        self.release([page])
        return known


class PageTable:
    """Where one session's positions lie in a pool.

    Positions `0 .. num_committed - 1` are the text that stands. Those from there to `num_reserved - 1` are drafted nodes in
    the order they were given, which need not be the order of any text. Always: `num_committed <= num_reserved`, and exactly
    `num_pages = ceil(num_reserved / 16)` pages are held. The first `num_known_pages` of them, all within the text, are
    known by content: others may hold them, and nobody writes there. The rest is this table's alone.
    """

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self._pages: list[int] = []
        self._keys: list[bytes] = []  # of the known pages
        self._num_committed = 0
        self._num_reserved = 0
        self._slots = np.empty(0, dtype=np.int64)  # of the first pages; of the others they are made when asked for

    @property
    def num_committed(self) -> int:
        return self._num_committed

    @property
    def num_reserved(self) -> int:
        return self._num_reserved

    @property
    def num_pages(self) -> int:
        return len(self._pages)

    @property
    def num_known_pages(self) -> int:
        return len(self._keys)

    def adopt(self, tokens: Sequence[int], scope: str = "") -> int:
        """Takes hold of the pages of the longest known beginning of a text, and counts them as committed: returns how many
        positions that are, whole pages, and fewer than the text has.

        Only what was published in the same scope is found. Raises `ValueError` unless the table holds nothing.
        """
        if self._pages:
            raise ValueError(f"a table of {len(self._pages)} pages cannot adopt others")
        key = scope_key(scope)
        for start in range(0, len(tokens) - PAGE_SIZE, PAGE_SIZE):  # the text's last token is left to read
            key = page_key(key, tokens[start : start + PAGE_SIZE])
            page = self.pool.hold_known(key)
            if page is None:
                break
            self._keys.append(key)
            self._pages.append(page)
        self._num_committed = self._num_reserved = len(self._pages) * PAGE_SIZE
        return self._num_committed

    def publish(self, tokens: Sequence[int], scope: str = "") -> None:
        """Makes the whole pages of the committed text known to whoever adopts. `tokens` are the text, from its beginning on; pages
        that it does not cover stay unknown. Costs nothing when no page was filled since, and takes the same scope each time.

        A page that is known already is held in place of this table's own, so that the positions' slots may change.
        """
        for i in range(len(self._keys), min(self._num_committed, len(tokens)) // PAGE_SIZE):
            key = page_key(self._keys[-1] if self._keys else scope_key(scope), tokens[i * PAGE_SIZE : (i + 1) * PAGE_SIZE])
            page = self.pool.make_known(self._pages[i], key)
            if page != self._pages[i]:
                self._pages[i] = page
                self._slots = self._slots[: i * PAGE_SIZE]
            self._keys.append(key)

    def reserve(self, total: int) -> None:
        """Makes room for positions `0 .. total - 1`. Raises `LimitExceeded`, changing nothing, when pages run out."""
        reserve_all([(self, total)])

    def advance(self, num_positions: int) -> None:
        """The first reserved positions after the committed ones become committed where they lie; the others stay reserved."""
        if not 0 <= num_positions <= self._num_reserved - self._num_committed:
            raise ValueError(f"cannot commit {num_positions} of {self._num_reserved - self._num_committed} reserved positions")
        self._num_committed += num_positions

    def rollback(self, num_committed: int) -> int:
        """Keeps the first `num_committed` committed positions and nothing else: returns how many are kept, up to 15 fewer where
        a page would be kept in part that is known by its content, and must not be written again.

        Costs as many steps as pages are let go. Raises `ValueError` when fewer are committed.
        """
        if not 0 <= num_committed <= self._num_committed:
            raise ValueError(f"cannot roll back to {num_committed} of {self._num_committed} committed positions")
        if num_committed < len(self._keys) * PAGE_SIZE:
            num_committed -= num_committed % PAGE_SIZE
        self._keep(num_committed)
        return num_committed

    def commit(self, path: Sequence[int]) -> None:
        """Keeps the nodes of `path` as the text's next positions; see `commit_paths`."""
        commit_paths(self.pool, [(self, path)])

    def release(self) -> None:
        """Lets go of all pages and is as new. A second release finds nothing to let go."""
        self._keep(0)

    def slots(self, start: int, stop: int) -> Slots:
        """The pool's slots of positions `start .. stop - 1`, `[stop - start]`: a copy."""
        if not 0 <= start <= stop <= self._num_reserved:
            raise ValueError(f"positions {start}..{stop} are not within the {self._num_reserved} reserved ones")
        num_pages = self._slots.size // PAGE_SIZE
        if num_pages < len(self._pages):
            first = np.array(self._pages[num_pages:]) * PAGE_SIZE
            self._slots = np.concatenate([self._slots, (first[:, None] + np.arange(PAGE_SIZE)).ravel()])
        return self._slots[start:stop].copy()

    def _keep(self, num_positions: int) -> None:
        self._num_committed = self._num_reserved = num_positions
        num_pages = _pages_for(num_positions)
        if num_pages < len(self._pages):
            surplus = self._pages[num_pages:]
            del self._pages[num_pages:], self._keys[num_pages:]
            self._slots = self._slots[: num_pages * PAGE_SIZE]
            self.pool.release(surplus)

    def _grow(self, total: int) -> None:
        missing = _pages_for(total) - len(self._pages)
        if missing > 0:
            self._pages += self.pool.allocate(missing, self._pages[-1] if self._pages else None)
        self._num_reserved = max(self._num_reserved, total)


def reserve_all(wanted: Sequence[tuple[PageTable, int]]) -> None:
    """Reserves for several distinct tables of one pool. Raises `LimitExceeded`, changing none, when pages run out."""
    if not wanted:
        return
    wanted[0][0].pool.check_room(sum(max(0, _pages_for(total) - table.num_pages) for table, total in wanted))
    for table, total in wanted:
        table._grow(total)  # noqa: SLF001  # one module, one noun: nobody else may


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
        num_nodes = table.num_reserved - table.num_committed
        if len(path) <= num_nodes and [*path] == [*range(len(path))]:
            continue  # as in plain decoding: it lies where it should
        nodes = np.asarray(path, dtype=np.int64)
        if nodes[0] < 0 or nodes[-1] >= num_nodes or (np.diff(nodes) <= 0).any():
            raise ValueError(f"not a path of rising nodes within the {num_nodes} reserved: {nodes.tolist()}")
        moved = np.flatnonzero(nodes != np.arange(nodes.size))
        slots = table.slots(table.num_committed, table.num_reserved)
        sources.append(slots[nodes[moved]])
        targets.append(slots[moved])
    if sources:
        source = sent(np.concatenate(sources), pool.keys.device)
        target = sent(np.concatenate(targets), pool.keys.device)
        for tensor in (pool.keys, pool.values):
            # A source may be another node's target: everything is read before anything is written.
            tensor.index_copy_(2, target, tensor.index_select(2, source))
    for table, path in paths:
        table._keep(table.num_committed + len(path))  # noqa: SLF001  # as above


def _pages_for(num_positions: int) -> int:
    return -(-num_positions // PAGE_SIZE)
