"""Which pages are free, as the stretches they form.

Whoever continues a run of pages gets the next ones as long as they are free; whoever starts one starts it in the middle of
the largest stretch, so that the run before it can go on too. Knows numbers; knows nothing of what pages hold.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class FreePages:
    """The free ones among pages `0 .. num_pages - 1`, at first all. No operation looks at all pages: a pool may have 100,000."""

    def __init__(self, num_pages: int) -> None:
        self._num_free = 0
        self._stop_of: dict[int, int] = {}  # first page of a stretch -> the page after its last
        self._start_of: dict[int, int] = {}  # and back
        self._by_size: list[tuple[int, int]] = []  # a heap of (-length, first), with some that are no longer so
        self._add(0, num_pages)

    def __len__(self) -> int:
        return self._num_free

    def take(self, count: int, after: int | None = None) -> list[int]:
        """`count` pages, at most as many as are free: those that follow page `after`, then in runs as long as there are."""
        taken: list[int] = []
        if after is not None and (stop := self._stop_of.get(after + 1)) is not None:
            taken += self._cut(after + 1, after + 1, min(count, stop - after - 1))
        while len(taken) < count:
            start, length = self._largest()
            wanted = min(count - len(taken), length)
            # Nobody's run comes before the pool's first page.
            taken += self._cut(start, start + (length - wanted) // 2 if start else 0, wanted)
        return taken

    def put(self, page: int) -> None:
        """Makes a page free that was not."""
        start, stop = page, page + 1
        if page in self._start_of:
            start = self._start_of[page]
            self._remove(start)
        if page + 1 in self._stop_of:
            stop = self._stop_of[page + 1]
            self._remove(page + 1)
        self._add(start, stop)

    def _cut(self, stretch: int, first: int, count: int) -> range:
        """Takes `count` pages from `first` on out of a stretch."""
        stop = self._remove(stretch)
        self._add(stretch, first)
        self._add(first + count, stop)
        return range(first, first + count)

    def _largest(self) -> tuple[int, int]:
        while True:
            length, start = -self._by_size[0][0], self._by_size[0][1]
            if self._stop_of.get(start) == start + length:
                return start, length
            heappop(self._by_size)

    def _add(self, start: int, stop: int) -> None:
        if start == stop:
            return
        self._num_free += stop - start
        self._stop_of[start], self._start_of[stop] = stop, start
        heappush(self._by_size, (start - stop, start))
        if len(self._by_size) > 2 * len(self._stop_of) + 64:
            self._by_size = [(start - stop, start) for start, stop in self._stop_of.items()]
            heapify(self._by_size)

    def _remove(self, start: int) -> int:
        stop = self._stop_of.pop(start)
        del self._start_of[stop]
        self._num_free -= stop - start
        return stop
