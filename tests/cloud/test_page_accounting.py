from __future__ import annotations

from collections import defaultdict
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cactus_core.errors import LimitExceeded
from cloud.pages import PAGE_SIZE, PageTable
from cloud.prefixes import page_key, scope_key
from tests.cloud.small_pools import read, small_pool, write


class PageAccounting(RuleBasedStateMachine):
    """Tables read, publish, adopt, roll back and go, in any order, in a pool too small for them.

    No page is lost; none is written that others hold or that is known; what is adopted is what was published, in the same
    scope; what is known and held by nobody is forgotten in the order in which it was let go, a text's end first.
    A content is `(scope, tokens)`, the tokens up to a page's end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = small_pool(12)
        self.tables = [PageTable(self.pool) for _ in range(4)]
        self.texts: list[tuple[str, list[int]]] = [("", []) for _ in self.tables]
        self.known: list[list[tuple]] = [[] for _ in self.tables]  # contents of each table's known pages
        self.idle: list[tuple] = []  # contents that nobody holds, in the order they were let go
        self.numbers = defaultdict(count(1.0).__next__)  # what lies in a slot says what text leads to it

    def pages(self, table: PageTable) -> list[int]:
        return [int(slot) // PAGE_SIZE for slot in table.slots(0, table.num_reserved)[::PAGE_SIZE]]

    def held(self) -> set[int]:
        return {page for table in self.tables for page in self.pages(table)}

    def content(self, which: int) -> list[float]:
        scope, text = self.texts[which]
        return [self.numbers[scope, *text[: i + 1]] for i in range(len(text))]

    def write(self, table: PageTable, first: int, values: list[float]) -> None:
        for page in {int(slot) // PAGE_SIZE for slot in table.slots(first, first + len(values))}:
            assert page not in self.pool._known
            assert sum(page in self.pages(other) for other in self.tables) == 1
        write(table, first, values)

    def let_go(self, which: int, num_kept: int) -> None:
        """Of a table's known pages all but the first."""
        self.known[which], gone = self.known[which][:num_kept], self.known[which][num_kept:]
        still_held = {content for known in self.known for content in known}
        self.idle += [content for content in reversed(gone) if content not in still_held]

    @rule(which=st.integers(0, 3), more=st.integers(0, 100))
    def reserve(self, which: int, more: int) -> None:
        table = self.tables[which]
        total = table.num_committed + more
        missing = max(0, -(-total // PAGE_SIZE) - table.num_pages)
        num_free = self.pool.num_pages - len(self.held())
        before = (self.pages(table), table.num_reserved)
        if missing > num_free:
            with pytest.raises(LimitExceeded):
                table.reserve(total)
            assert (self.pages(table), table.num_reserved) == before
            return
        table.reserve(total)
        assert self.pages(table)[: len(before[0])] == before[0]
        del self.idle[: max(0, missing - (num_free - len(self.idle)))]

    @rule(which=st.integers(0, 3), token=st.integers(0, 1), data=st.data())
    def commit(self, which: int, token: int, data: st.DataObject) -> None:
        table, text = self.tables[which], self.texts[which][1]
        start, num_nodes = len(text), table.num_reserved - table.num_committed
        left_out = data.draw(st.sets(st.integers(0, num_nodes - 1), max_size=3)) if num_nodes else set()
        path = [node for node in range(num_nodes) if node not in left_out]
        text += [token] * len(path)
        nodes = dict(zip(path, self.content(which)[start:], strict=True))
        self.write(table, start, [nodes.get(node, -1.0) for node in range(num_nodes)])
        table.commit(path)
        assert table.num_reserved == table.num_committed == len(text)

    @rule(which=st.integers(0, 3), token=st.integers(0, 1), share=st.floats(0, 1))
    def advance(self, which: int, token: int, share: float) -> None:
        table, text = self.tables[which], self.texts[which][1]
        before = table.slots(0, table.num_reserved)
        start, count = len(text), int(share * (table.num_reserved - len(text)))
        text += [token] * count
        self.write(table, start, self.content(which)[start:])
        table.advance(count)
        assert (table.slots(0, table.num_reserved) == before).all()

    @rule(which=st.integers(0, 3), token=st.integers(0, 1), num_tokens=st.integers(1, 70))
    def read_a_chunk(self, which: int, token: int, num_tokens: int) -> None:
        self.reserve(which, num_tokens)
        self.advance(which, token, 1.0)
        self.publish(which, [])

    @rule(which=st.integers(0, 3), unread=st.lists(st.integers(0, 1), max_size=20))
    def publish(self, which: int, unread: list[int]) -> None:
        table, (scope, text) = self.tables[which], self.texts[which]
        table.publish(text + unread, scope)
        for i in range(len(self.known[which]), len(text) // PAGE_SIZE):
            content = (scope, *text[: (i + 1) * PAGE_SIZE])
            self.known[which].append(content)
            if content in self.idle:
                self.idle.remove(content)

    @rule(which=st.integers(0, 3), scope=st.sampled_from(["", "b"]), other=st.integers(0, 3), more=st.lists(st.integers(0, 1), max_size=40))
    def adopt(self, which: int, scope: str, other: int, more: list[int]) -> None:
        """A new text, which may begin as another does or did."""
        self.release(which)
        wanted = [*self.texts[other][1], *more]
        contents = [(scope, *wanted[: i + PAGE_SIZE]) for i in range(0, len(wanted) - PAGE_SIZE, PAGE_SIZE)]
        known = {content for of_table in self.known for content in of_table} | set(self.idle)
        num_pages = next((i for i, content in enumerate(contents) if content not in known), len(contents))
        assert self.tables[which].adopt(wanted, scope) == num_pages * PAGE_SIZE
        self.known[which] = contents[:num_pages]
        self.idle = [content for content in self.idle if content not in self.known[which]]
        self.texts[which] = (scope, wanted[: num_pages * PAGE_SIZE])

    @rule(which=st.integers(0, 3), share=st.floats(0, 1))
    def rollback(self, which: int, share: float) -> None:
        table, text = self.tables[which], self.texts[which][1]
        length = int(share * len(text))
        expected = length if length >= len(self.known[which]) * PAGE_SIZE else length // PAGE_SIZE * PAGE_SIZE
        assert table.rollback(length) == table.num_committed == table.num_reserved == expected
        del text[expected:]
        self.let_go(which, expected // PAGE_SIZE)

    @rule(which=st.integers(0, 3))
    def release(self, which: int) -> None:
        self.tables[which].release()
        self.texts[which] = (self.texts[which][0], [])
        self.let_go(which, 0)

    @invariant()
    def every_text_is_what_was_read(self) -> None:
        for which, table in enumerate(self.tables):
            assert read(table) == self.content(which)

    @invariant()
    def every_page_is_free_or_known_or_held_by_those_who_know_it(self) -> None:
        holders = [0] * self.pool.num_pages
        for table, known in zip(self.tables, self.known, strict=True):
            assert table.num_committed <= table.num_reserved
            assert table.num_pages == -(-table.num_reserved // PAGE_SIZE)
            assert table.num_known_pages == len(known)
            for page in self.pages(table):
                holders[page] += 1
        assert holders == self.pool._num_holders
        assert self.pool.num_free_pages == holders.count(0)
        for table in self.tables:
            assert all(holders[page] == 1 for page in self.pages(table)[table.num_known_pages :])

    @invariant()
    def what_is_known_is_what_was_not_forgotten(self) -> None:
        keys = [key_of(content) for content in self.idle]
        assert list(self.pool._known._idle) == [self.pool._known.find(key) for key in keys]
        assert set(self.pool._known._page_of) == {*keys, *(key_of(content) for known in self.known for content in known)}

    def teardown(self) -> None:
        for table in self.tables:
            table.release()
        assert self.pool.num_free_pages == self.pool.num_pages


def key_of(content: tuple) -> bytes:
    scope, *text = content
    key = scope_key(scope)
    for start in range(0, len(text), PAGE_SIZE):
        key = page_key(key, text[start : start + PAGE_SIZE])
    return key


TestPageAccounting = PageAccounting.TestCase
TestPageAccounting.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
