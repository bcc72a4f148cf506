"""The verifier's benchmark: what its parts do is what they say, and what it writes finds its place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import capacity, edge_clients, hog, lockstep, medians, replayed, targets, verifier, verifier_tables
from benchmarks.edge_clients import Shape
from benchmarks.table import write_into
from cactus_core.block import empty_block
from cactus_core.session import Limits
from cactus_core.wire import codec
from cloud.tree import DraftTree

ROOT = Path(__file__).parent.parent.parent
TABLES = ("overhead", "speedup", "pace", "capacity", "neighbours")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def engine():
    with lockstep.running_engine(targets.demo().target, 128) as engine:
        yield engine


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def sharp(request):
    """The large target's maker at a size for tests: laws that are point masses, over more tokens than the demo pair's."""
    return targets.random_target("small", request.param, hidden_size=64, num_hidden_layers=2, intermediate_size=64, num_threads=1)


def test_what_is_sent_between_steps_is_one_step(engine):
    requests = [targets.demo().request(prompt, 50, seed=seed) for seed, prompt in enumerate(edge_clients.prompts(0, 6))]
    with lockstep.opened(engine, requests) as sessions:
        for number in range(3):
            blocks = edge_clients.drafts(sessions, Shape(2, 3, 64)) if number else [empty_block(len(s.text)) for s in sessions]
            unread = sum(len(s.text) - s.table.num_committed + len(DraftTree.of(b).tokens) for s, b in zip(sessions, blocks, strict=True))
            taken = lockstep.lap(engine, sessions, blocks, number)
            assert (taken.figures.num_steps, taken.figures.num_read) == (1, unread)
            assert taken.figures.num_emitted == sum(decision.num_emitted for decision in taken.decisions)
            assert 0.0 < taken.figures.busy_s < taken.wall_s


def test_an_error_between_steps_is_raised_where_it_is_waited_for(engine):
    with pytest.raises(ZeroDivisionError):
        lockstep.between_steps(engine, lambda: 1 // 0)
    assert lockstep.between_steps(engine, lambda: 7) == 7


def test_plain_decoding_of_all_clients_takes_as_many_steps_as_tokens(engine):
    requests = [targets.demo().request(prompt, 5) for prompt in edge_clients.prompts(0, 4)]
    with lockstep.opened(engine, requests) as sessions:
        _, figures = lockstep.decoded(engine, sessions)
        assert all(session.num_emitted == 5 for session in sessions)
    assert (figures.num_steps, figures.num_emitted) == (5, 20)


def test_a_replayed_round_stands_as_far_as_the_recorded_one(engine, sharp):
    clients = [targets.demo().request(prompt, 200, seed=seed) for seed, prompt in enumerate(edge_clients.prompts(0, 4))]
    for shape in (Shape(1, 4, 64), Shape(4, 5, 64)):
        work = capacity.speculated(engine, clients, lambda sessions, shape=shape: edge_clients.drafts(sessions, shape), 24)
        assert {recorded.num_accepted for recorded in work.rounds} >= {0, shape.L}
        rng = np.random.default_rng(0)
        with lockstep.running_engine(sharp.target, 128) as other:
            asked = [sharp.request(list(client.prompt), 40, seed=client.seed) for client in clients[:1]]
            [text] = capacity.written(other, asked, 40)
            for recorded in work.rounds:
                with lockstep.opened(other, asked) as sessions:
                    known = text[len(sessions[0].text) :]
                    block = replayed.replayed(recorded, len(sessions[0].text), known, sharp.target.vocab_size, rng)
                    [decision] = lockstep.lap(other, sessions, [block], 0).decisions
                    assert decision.num_accepted == recorded.num_accepted
                    assert sessions[0].text == text[: len(sessions[0].text)]
                assert len(DraftTree.of(block).tokens) == len(DraftTree.of(recorded.block).tokens)
                assert (np.sort(block.laws.counts) == np.sort(recorded.block.laws.counts)).all()


def test_work_is_counted_per_second_of_the_verifiers(engine):
    clients = [targets.demo().request(prompt, 60, seed=seed) for seed, prompt in enumerate(edge_clients.prompts(0, 3))]
    work = capacity.speculated(engine, clients, lambda sessions: edge_clients.drafts(sessions, Shape(1, 3, 64)), 8)
    assert work.num_tokens == sum(1 + recorded.num_accepted for recorded in work.rounds) >= 24
    assert work.busy_s == pytest.approx(sum(work.step_s))
    plain = capacity.decoded_alone(engine, clients, 8)
    assert plain.num_tokens == 24


def test_the_bare_forward_leaves_the_target_as_it_was(engine):
    request = targets.demo().request([5, 6, 7], 6, temperature=0.0)
    texts = []
    for _ in range(2):
        with lockstep.opened(engine, [request]) as sessions:
            lockstep.decoded(engine, sessions)
            texts.append(sessions[0].text)
        lockstep.between_steps(engine, lambda: targets.demo().bare_forward(9))
    assert texts[0] == texts[1]


def test_the_largest_block_is_legal_and_no_larger_one_is():
    limits, rng = Limits(), np.random.default_rng(0)
    block = hog.largest_block(limits, 4096, rng)
    message = codec.pack_block(block, 0)
    assert message.ByteSize() < limits.max_frame_bytes
    codec.unpack_block(message, limits, 4096)
    assert (block.num_rows, block.length) == (limits.max_rows, limits.max_length)
    assert block.laws.ids.size == limits.max_law_tokens
    assert len(DraftTree.of(block).tokens) == block.tokens.size


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=40))
@settings(max_examples=50)
def test_an_interval_holds_its_median(values):
    low, median, high = medians.median_interval(values)
    assert min(values) <= low <= median <= high <= max(values)


def test_an_interval_misses_as_rarely_as_it_says():
    rng = np.random.default_rng(0)
    for n in (6, 11, 30):
        intervals = [medians.median_interval(rng.exponential(size=n)) for _ in range(2000)]
        share = np.mean([low <= np.log(2.0) <= high for low, _, high in intervals])
        assert 0.94 <= share <= 0.99


def test_each_table_has_a_place_in_the_page():
    page = (ROOT / "docs/verifier.md").read_text("utf8")
    for name in TABLES:
        assert page.count(f"<!-- {name} -->") == 1


@pytest.mark.slow
def test_the_quick_benchmark_fills_every_table(tmp_path):
    figures = verifier.run(quick=True)
    shown = verifier_tables.tables(figures)
    assert [table.name for table in shown] == list(TABLES)
    page = tmp_path / "verifier.md"
    page.write_text((ROOT / "docs/verifier.md").read_text("utf8"), "utf8")
    write_into(page, shown)
    assert "| random, 474M |" in page.read_text("utf8")
    assert figures.value("speedup_vs_naive", against="generate, one by one", temperature=1.0) >= 3.0
