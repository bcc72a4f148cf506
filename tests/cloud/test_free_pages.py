from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloud.free_pages import FreePages

NUM_PAGES = 40


def stretches(pages: set[int]) -> dict[int, int]:
    """The first page of each stretch, with the page after its last."""
    found: dict[int, int] = {}
    start = None
    for page in sorted(pages):
        if page - 1 not in pages:
            start = page
        found[start] = page + 1
    return found


class FreeStretches(RuleBasedStateMachine):
    """Pages come and go one by one and in runs: what is free is free once, and runs are as long as they can be."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = FreePages(NUM_PAGES)
        self.free = set(range(NUM_PAGES))

    @rule(count=st.integers(0, NUM_PAGES), after=st.none() | st.integers(0, NUM_PAGES - 1))
    def take(self, count: int, after: int | None) -> None:
        if after in self.free:
            return
        count = min(count, len(self.free))
        before = stretches(self.free)
        taken = self.pages.take(count, after)
        assert len(set(taken)) == len(taken) == count
        assert set(taken) <= self.free
        self.free -= set(taken)
        continued = 0 if after is None else min(count, before.pop(after + 1, after + 1) - after - 1)
        if continued:
            assert taken[:continued] == list(range(after + 1, after + 1 + continued))
        else:
            lengths = sorted((stop - start for start, stop in before.items()), reverse=True)
            num_runs = sum(b != a + 1 for a, b in pairwise(taken)) + bool(taken)
            assert num_runs <= next(n for n in range(len(lengths) + 1) if sum(lengths[:n]) >= count)

    @rule(data=st.data(), count=st.integers(1, 10))
    def put(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, NUM_PAGES - len(self.free))):
            page = data.draw(st.sampled_from(sorted(set(range(NUM_PAGES)) - self.free)))
            self.pages.put(page)
            self.free.add(page)

    @invariant()
    def stretches_are_what_is_free(self) -> None:
        assert len(self.pages) == len(self.free)
        assert self.pages._stop_of == stretches(self.free)
        assert self.pages._start_of == {stop: start for start, stop in self.pages._stop_of.items()}


TestFreeStretches = FreeStretches.TestCase
TestFreeStretches.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)


def test_whoever_starts_a_run_leaves_room_to_the_run_before():
    pages = FreePages(1000)
    runs = [pages.take(1) for _ in range(8)]
    for _ in range(60):
        for run in runs:
            run.extend(pages.take(1, run[-1]))
    assert all(run == list(range(run[0], run[0] + 61)) for run in runs)


def test_what_is_remembered_does_not_grow_with_what_happened():
    pages = FreePages(100)
    for _ in range(1000):
        for page in pages.take(3):
            pages.put(page)
    assert len(pages._by_size) <= 2 * len(pages._stop_of) + 64
