from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import cloud.attention
import cloud.padded_attention
from cactus_core.errors import LimitExceeded
from cloud.pages import PAGE_SIZE, PagePool, PageTable, commit_paths
from cloud.ragged_attention import RaggedAttention
from cloud.segment import Segment
from tests.cloud.conftest import VOCAB_SIZE, Pair, make_pair
from tests.core.drafts import path_to

TOLERANCE = 2e-4
LONGEST = 2000
NUM_PAGES = 320  # two and a half of the longest texts
NUM_READERS = 4
ATTENTIONS = [(RaggedAttention, 0), *((cloud.padded_attention.PaddedAttention, cells) for cells in (1, 4096, 1 << 22))]


@pytest.fixture(scope="module")
def long_pairs(qwen3: Pair, llama: Pair, tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Both families with room for long texts, whose plain twins attend by a kernel: eagerly, long texts would take most of the time."""
    pairs = []
    for short in (qwen3, llama):
        family, config = type(short.plain), deepcopy(short.plain.config)
        config.max_position_embeddings = LONGEST + 200
        model = family(config)
        model.load_state_dict(short.plain.state_dict())
        pair = make_pair(tmp_path_factory.mktemp("long"), model)
        plain = family.from_pretrained(pair.path, attn_implementation="sdpa", dtype=torch.float32).eval()
        pairs.append(pair._replace(plain=plain))
    return pairs


@dataclass
class Reader:
    """A text of which `table.num_committed` tokens were read, and a tree drafted after it, of which `num_before` nodes were."""

    table: PageTable
    text: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    num_before: int = 0

    @property
    def unread_text(self) -> list[int]:
        return self.text[self.table.num_committed :]

    @property
    def num_unread(self) -> int:
        return len(self.unread_text) + len(self.tokens) - self.num_before

    def lose_pages(self) -> None:
        self.table.release()
        self.num_before = 0

    def drop_tree(self) -> None:
        self.tokens, self.parents, self.num_before = [], [], 0

    def continue_with(self, kind: str, chance: np.random.Generator) -> None:
        """Gives it more to read: a prompt, one token, or drafts with, mostly, the token that was decided before them."""
        room = LONGEST - len(self.text)
        size = {"one": 1, "prompt": chance.integers(1, 120), "long": chance.integers(300, LONGEST)}.get(kind, chance.integers(1, 25))
        size = max(1, min(int(size), room))
        tokens = chance.integers(0, VOCAB_SIZE, size).tolist()
        if kind in {"one", "prompt", "long"}:
            self.text += tokens
            return
        self.text += chance.integers(0, VOCAB_SIZE, chance.integers(0, 2)).tolist()
        self.tokens = tokens
        if kind == "tree":
            self.parents = [int(chance.integers(-1, node)) if node else -1 for node in range(size)]
        else:  # rows of a common stem; a single one is a chain
            stem, num_rows = int(chance.integers(0, size + 1)), int(chance.integers(1, 4))
            self.parents = [node - 1 if node <= stem else max(stem - 1, node - num_rows) for node in range(size)]

    def part(self, num_tokens: int, num_logits: int) -> Segment:
        """The next of what is unread: text, then nodes."""
        chunk, before = self.unread_text[:num_tokens], self.num_before
        stop = before + num_tokens - len(chunk)
        parents = [*range(-1, len(chunk) - 1), *(parent + len(chunk) for parent in self.parents[:stop])]
        return Segment(self.table, np.array(chunk + self.tokens[before:stop]), np.array(parents), num_logits, before)

    def expected(self, num_tokens: int, num_logits: int, pair: Pair, chance: np.random.Generator) -> dict[int, torch.Tensor]:
        """Of the last `num_logits` of a part: some `[V]` by their place in it, as the plain model gives them for one sequence at a time.

        All, unless the text is long: then those on one path.
        """
        past, chunk, before = self.table.num_committed, self.unread_text[:num_tokens], self.num_before
        stop = before + num_tokens - len(chunk)
        wanted = range(num_tokens - num_logits, num_tokens)
        nodes = [node for node in range(before, stop) if node - before + len(chunk) in wanted]
        paths = [path_to(self.parents, node) for node in nodes if node not in {self.parents[other] for other in nodes}]
        if len(self.text) > 200:
            paths = [paths[i] for i in chance.permutation(len(paths))[:1]]
        found = {}
        for path in paths or [[]] * bool(wanted):
            logits = pair.logits(self.text[: past + len(chunk)] + [self.tokens[node] for node in path])
            found |= {i: logits[past + i] for i in range(len(chunk)) if i in wanted}
            for depth, node in enumerate(path):
                found[node - before + len(chunk)] = logits[past + len(chunk) + depth]
        return {place: logits for place, logits in found.items() if place in wanted}


def forget_what_is_free(pool: PagePool, tables: Sequence[PageTable]) -> None:
    """Not a number wherever nothing known or held lies: whatever reads it will show."""
    held = {int(slot) // PAGE_SIZE for table in tables for slot in table.slots(0, table.num_reserved)[::PAGE_SIZE]}
    free = [page for page in range(pool.num_pages) if page not in held and page not in pool._known]
    slots = (np.array(free, dtype=np.int64)[:, None] * PAGE_SIZE + np.arange(PAGE_SIZE)).ravel()
    for tensor in (pool.keys, pool.values):
        tensor.index_fill_(2, torch.from_numpy(slots), torch.nan)


class PackedSteps(RuleBasedStateMachine):
    """Sessions read prompts and drafts, whole or in parts, accept, roll back, share what they have in common, lose their pages
    and read again, in any company: each sees what it would see alone.
    """

    pairs: ClassVar[list[Pair]]

    @initialize(which_pair=st.integers(0, 1), attention=st.sampled_from(ATTENTIONS), num_common=st.sampled_from([0, 30, 100, 700]))
    def start(self, which_pair: int, attention: tuple[type, int], num_common: int) -> None:
        cloud.attention.RaggedAttention, cloud.padded_attention._MAX_CELLS = attention
        self.pair = self.pairs[which_pair]
        self.pool = self.pair.target.new_pool(NUM_PAGES)
        common = np.random.default_rng(0).integers(0, VOCAB_SIZE, num_common).tolist()
        self.readers = [Reader(PageTable(self.pool), [*common]) for _ in range(NUM_READERS)]

    @rule(
        work=st.dictionaries(
            st.integers(0, NUM_READERS - 1), st.sampled_from(["one", "prompt", "prompt", "long", "rows", "tree", "tree"]), min_size=1
        ),
        seed=st.integers(0, 1 << 20),
    )
    def step(self, work: dict[int, str], seed: int) -> None:
        chance = np.random.default_rng(seed)
        forget_what_is_free(self.pool, [reader.table for reader in self.readers])
        parts, expected, num_rows = [], {}, 0
        for which, kind in work.items():
            reader = self.readers[which]
            if not reader.table.num_reserved and chance.random() < 0.7:
                reader.table.adopt(reader.text)
            if not reader.num_unread:
                reader.continue_with(kind, chance)
            num_tokens = reader.num_unread if chance.random() < 0.6 else int(chance.integers(1, reader.num_unread + 1))
            num_logits = num_tokens if chance.random() < 0.6 else int(chance.integers(0, num_tokens + 1))
            parts.append((reader, reader.part(num_tokens, num_logits)))
            for place, logits in reader.expected(num_tokens, num_logits, self.pair, chance).items():
                expected[num_rows + place - (num_tokens - num_logits)] = logits
            num_rows += num_logits
        before = [(reader.table.num_reserved, reader.table.num_pages) for reader, _ in parts], self.pool.num_free_pages
        try:
            logits = self.pair.target.forward([segment for _, segment in parts])
        except LimitExceeded:
            assert ([(reader.table.num_reserved, reader.table.num_pages) for reader, _ in parts], self.pool.num_free_pages) == before
            max(self.readers, key=lambda reader: reader.table.num_pages).lose_pages()
            return
        assert logits.shape == (num_rows, VOCAB_SIZE)
        if expected:
            error = (logits[list(expected)] - torch.stack(list(expected.values()))).abs().max()
            assert error <= TOLERANCE
        for reader, segment in parts:
            written = reader.table.slots(segment.num_seen - len(segment.tokens), segment.num_seen)
            assert not any(page in self.pool._known for page in {int(slot) // PAGE_SIZE for slot in written})
        self.keep_what_stands(parts, chance)

    def keep_what_stands(self, parts: Sequence[tuple[Reader, Segment]], chance: np.random.Generator) -> None:
        paths = []
        for reader, segment in parts:
            num_text = min(len(segment.tokens), len(reader.unread_text))
            if len(segment.tokens) < reader.num_unread:
                reader.table.advance(num_text)
                reader.num_before += len(segment.tokens) - num_text
                continue
            path = path_to(reader.parents, int(chance.integers(-1, len(reader.tokens))))
            path = path[: chance.integers(0, len(path) + 1)]
            paths.append((reader.table, [*range(num_text), *(num_text + node for node in path)]))
            reader.text += [reader.tokens[node] for node in path]
            reader.drop_tree()
        commit_paths(self.pool, paths)
        for reader, _ in parts:
            if chance.random() < 0.7:
                reader.table.publish(reader.text)

    @rule(which=st.integers(0, NUM_READERS - 1), other=st.integers(0, NUM_READERS - 1), seed=st.integers(0, 1 << 20))
    def step_back(self, which: int, other: int, seed: int) -> None:
        """A text is rolled back, or loses its pages, or gives way to one that begins as another does."""
        chance = np.random.default_rng(seed)
        reader = self.readers[which]
        match chance.integers(4):
            case 0:
                length = max(0, reader.table.num_committed - int(chance.exponential(30.0)))
                assert length - PAGE_SIZE < reader.table.rollback(length) <= length
                del reader.text[length:]
                reader.drop_tree()
            case 1:
                reader.lose_pages()
            case _:
                text = self.readers[other].text
                reader.table.release()
                self.readers[which] = Reader(PageTable(self.pool), text[: int(chance.uniform(0.5, 1.0) * len(text))])

    def teardown(self) -> None:
        for reader in self.readers:
            reader.table.release()
        assert self.pool.num_free_pages == NUM_PAGES


def test_packed_steps_give_each_session_what_it_would_get_alone(long_pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud.attention, "RaggedAttention", RaggedAttention)  # the machine varies both
    monkeypatch.setattr(cloud.padded_attention, "_MAX_CELLS", cloud.padded_attention._MAX_CELLS)
    machine = type("PackedStepsOfPairs", (PackedSteps,), {"pairs": long_pairs})
    run_state_machine_as_test(machine, settings=settings(max_examples=200, stateful_step_count=12, deadline=None))
