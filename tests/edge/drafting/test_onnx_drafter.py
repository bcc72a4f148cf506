"""Blocks are what the contract of `Drafter` says, whatever was drafted before. Real ONNX Runtime; transformers is the judge."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from cactus_core.block import Block
from cactus_core.coins import SeededCoins, Site
from cactus_core.errors import InvalidInput, LimitExceeded, Unavailable
from cactus_core.lattice import LatticeLaws, quantise
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams, probabilities
from edge.drafting import onnx_rows
from edge.drafting.drafter import Drafter
from edge.drafting.onnx_drafter import OnnxDrafter
from tests.edge.conftest import MAX_POSITIONS, VOCAB_SIZE, Pair

SUPPORT_SIZE, BITS = 24, 10
PARAMS = SamplingParams(temperature=0.8, top_p=0.95)
# A count may round the other way, and a token at the edge of the support may change places with its neighbour.
CLOSE = 2 / (1 << BITS)
TEXT = np.random.default_rng(5).integers(0, VOCAB_SIZE, 30)


@pytest.fixture
def drafter(pair: Pair) -> OnnxDrafter:
    return fresh(pair)


@dataclass
class Runs:
    """The shape `[B, S]` of each run of the graph; the run of number `interrupt_after` writes its caches and then fails."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    interrupt_after: int = -1


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    seen, run = Runs(), onnx_rows._View.run

    def watched(view: Any, session: Any, ids: np.ndarray[Any, Any], start: int) -> Any:
        seen.shapes.append(ids.shape)
        logits = run(view, session, ids, start)
        if len(seen.shapes) == seen.interrupt_after:
            raise KeyboardInterrupt
        return logits

    monkeypatch.setattr(onnx_rows._View, "run", watched)
    return seen


def fresh(pair: Pair) -> OnnxDrafter:
    return OnnxDrafter.load(pair.exported, support_size=SUPPORT_SIZE, bits=BITS)


def dense(laws: LatticeLaws) -> np.ndarray[Any, Any]:
    probs = np.zeros((len(laws.ids), VOCAB_SIZE))
    np.add.at(probs, (np.arange(len(laws.ids))[:, None], laws.ids), laws.probs)  # padding adds 0 to id 0
    return probs


def assert_laws_are_the_models(block: Block, text: np.ndarray[Any, Any], pair: Pair, params: SamplingParams, num_prompt: int = 0) -> None:
    """At every prefix of every path the block's law is the one that transformers' logits give, bias and penalties applied."""
    paths = np.concatenate([np.tile(text, (block.num_rows, 1)), block.tokens[:, :-1]], axis=1)
    with torch.no_grad():
        logits = pair.model(torch.from_numpy(paths)).logits[:, len(text) - 1 :].numpy()
    penalties = Penalties(params, text, num_prompt)
    for depth in range(block.length):
        logits[:, depth] = penalties.after(block.tokens[:, :depth]).edited(logits[:, depth])
    expected = dense(quantise(probabilities(logits.reshape(-1, VOCAB_SIZE), params), SUPPORT_SIZE, BITS))
    given_laws = dense(block.laws)[block.law_of.reshape(-1)]
    np.testing.assert_allclose(given_laws, expected, atol=CLOSE)


def same(one: Block, other: Block) -> bool:
    arrays = [(b.tokens, b.law_of, b.laws.ids, b.laws.counts) for b in (one, other)]
    return one.base == other.base and all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))


def test_it_is_a_drafter(pair: Pair) -> None:
    drafter: Drafter = fresh(pair)
    assert (drafter.vocab_size, drafter.max_positions) == (VOCAB_SIZE, MAX_POSITIONS)


@pytest.mark.parametrize(
    "params",
    [SamplingParams(), SamplingParams(0.7, top_k=10), SamplingParams(1.3, top_k=SUPPORT_SIZE + 10), PARAMS, SamplingParams(1.1, 12, 0.8)],
)
def test_the_law_at_every_prefix_is_the_models(pair: Pair, drafter: OnnxDrafter, params: SamplingParams) -> None:
    block = drafter.draft(TEXT, num_rows=4, length=6, params=params, seed=1)
    assert (block.base, block.num_rows, block.length) == (30, 4, 6)
    assert_laws_are_the_models(block, TEXT, pair, params)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(0.8, presence_penalty=1.5, frequency_penalty=0.7, repetition_penalty=1.4),
        SamplingParams(repetition_penalty=0.6, logit_bias=((3, 6.0), (40, -100.0), (VOCAB_SIZE + 3, 50.0))),
        SamplingParams(1.2, top_p=0.9, min_p=0.02, frequency_penalty=-1.0),
    ],
)
def test_laws_are_shaped_by_the_text_and_the_path_so_far(pair: Pair, drafter: OnnxDrafter, params: SamplingParams) -> None:
    block = drafter.draft(TEXT, num_rows=4, length=6, params=params, seed=1, num_prompt=11)
    assert_laws_are_the_models(block, TEXT, pair, params, num_prompt=11)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_laws_are_the_models(block, TEXT, pair, SamplingParams(params.temperature, top_p=params.top_p, min_p=params.min_p))


def test_a_support_as_large_as_the_vocabulary_keeps_the_whole_law(pair: Pair) -> None:
    block = OnnxDrafter.load(pair.exported, support_size=1000, bits=16).draft(
        TEXT, num_rows=1, length=1, params=SamplingParams(2.0), seed=1
    )
    with torch.no_grad():
        logits = pair.model(torch.from_numpy(TEXT)[None]).logits[:, -1].numpy()
    np.testing.assert_allclose(dense(block.laws), probabilities(logits, SamplingParams(2.0)), atol=2 / (1 << 16))


def test_each_token_is_the_one_that_its_coin_draws_from_its_law(drafter: OnnxDrafter) -> None:
    block = drafter.draft(TEXT.tolist(), num_rows=4, length=5, params=PARAMS, seed=11)
    coins = SeededCoins([11] * 4, [30] * 4, np.arange(4))
    for depth in range(5):
        law = block.law_of[:, depth]
        drawn = coins.draw(block.laws.counts[law].astype(np.float64), Site.DRAFT, depth)
        np.testing.assert_array_equal(block.tokens[:, depth], block.laws.ids[law, drawn])


def test_rows_that_share_a_prefix_share_its_law_and_no_law_is_sent_twice(drafter: OnnxDrafter) -> None:
    sharp = SamplingParams(temperature=0.3)
    block = drafter.draft(TEXT, num_rows=8, length=5, params=sharp, seed=2)
    prefixes = {tuple(row[:depth]) for row in block.tokens.tolist() for depth in range(5)}
    assert 5 < len(prefixes) < 8 * 4 + 1  # some rows parted and some did not, or this test shows nothing
    assert len(block.laws.ids) == len(prefixes)


def test_greedy_drafts_one_row_whatever_was_asked_for(pair: Pair, drafter: OnnxDrafter) -> None:
    block = drafter.draft(TEXT, num_rows=4, length=6, params=SamplingParams(temperature=0.0), seed=1)
    with torch.no_grad():
        ids = torch.from_numpy(TEXT)[None]
        for _ in range(6):
            ids = torch.cat([ids, pair.model(ids).logits[:, -1].argmax(-1, keepdim=True)], -1)
    np.testing.assert_array_equal(block.tokens, ids[:, 30:].numpy())
    assert (block.laws.sizes == 1).all()


def test_the_same_call_twice_gives_the_same_block(drafter: OnnxDrafter, runs: Runs) -> None:
    drafter.draft(TEXT[:20], num_rows=5, length=4, params=PARAMS, seed=8)
    first, second = (drafter.draft(TEXT, num_rows=3, length=5, params=PARAMS, seed=9) for _ in range(2))
    assert same(first, second)
    # Not only close enough to agree: what the first call computed for the text stands, and only steps run again.
    assert runs.shapes[-8:] == [(3, 1)] * 8


def test_the_same_calls_give_the_same_blocks_in_another_drafter(pair: Pair) -> None:
    def history(drafter: OnnxDrafter) -> list[Block]:
        blocks, text = [], TEXT
        for num_rows in (3, 5, 2):
            blocks.append(drafter.draft(text, num_rows=num_rows, length=4, params=PARAMS, seed=9))
            text = np.concatenate([text, blocks[-1].tokens[1, :3], [7]])
        return blocks

    assert all(map(same, history(fresh(pair)), history(fresh(pair))))


def test_other_seeds_draw_other_tokens(drafter: OnnxDrafter) -> None:
    one, other = (drafter.draft(TEXT, num_rows=4, length=5, params=PARAMS, seed=seed) for seed in (1, 2**64 - 1))
    assert not np.array_equal(one.tokens, other.tokens)


def test_a_long_text_goes_through_in_chunks(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_rows, "_CHUNK", 7)
    block = fresh(pair).draft(TEXT, num_rows=2, length=3, params=PARAMS, seed=1)
    assert_laws_are_the_models(block, TEXT, pair, PARAMS)


def test_only_tokens_that_no_row_holds_are_computed(drafter: OnnxDrafter, runs: Runs) -> None:
    block = drafter.draft(TEXT, num_rows=4, length=5, params=PARAMS, seed=4)
    assert runs.shapes == [(1, 30), (4, 1), (4, 1), (4, 1), (4, 1)]
    text = np.concatenate([TEXT, block.tokens[2, :3], [1]])  # three accepted of the third path, one corrected
    drafter.draft(text, num_rows=4, length=3, params=PARAMS, seed=4)
    assert runs.shapes[5:] == [(1, 1), (4, 1), (4, 1)]


@settings(max_examples=12)
@given(st.data())
def test_no_history_of_texts_and_sizes_changes_a_law(pair: Pair, data: st.DataObject) -> None:
    drafter = fresh(pair)
    text = TEXT[:5]
    for _ in range(data.draw(st.integers(2, 5), label="calls")):
        num_rows, length = data.draw(st.integers(1, 4), label="K"), data.draw(st.integers(1, 5), label="L")
        block = drafter.draft(text, num_rows=num_rows, length=length, params=PARAMS, seed=3)
        assert_laws_are_the_models(block, text, pair, PARAMS)
        followed = block.tokens[data.draw(st.integers(0, num_rows - 1)), : data.draw(st.integers(0, length))]
        kept = text[: data.draw(st.integers(1, len(text)), label="kept")] if data.draw(st.booleans()) else text
        new = data.draw(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=4), label="new")
        text = np.concatenate([kept, followed, np.array(new, dtype=np.int64)])


@pytest.mark.parametrize("text", [TEXT[::-1], TEXT[:20]], ids=["another text", "the text cut short"])
@pytest.mark.parametrize("interrupted_run", [1, 3], ids=["catching up", "stepping"])
def test_an_interrupted_call_leaves_no_false_cache(
    pair: Pair, drafter: OnnxDrafter, runs: Runs, text: np.ndarray[Any, Any], interrupted_run: int
) -> None:
    drafter.draft(TEXT, num_rows=3, length=5, params=PARAMS, seed=1)
    runs.interrupt_after = len(runs.shapes) + interrupted_run
    with pytest.raises(KeyboardInterrupt):
        drafter.draft(text, num_rows=3, length=5, params=PARAMS, seed=1)
    block = drafter.draft(TEXT, num_rows=3, length=5, params=PARAMS, seed=2)
    assert_laws_are_the_models(block, TEXT, pair, PARAMS)


def test_an_earlier_block_and_the_text_stay_as_they_were(drafter: OnnxDrafter) -> None:
    text = TEXT.copy()
    block = drafter.draft(text, num_rows=2, length=4, params=PARAMS, seed=1)
    before = block.tokens.copy(), block.laws.counts.copy()
    drafter.draft(text[:9], num_rows=2, length=4, params=PARAMS, seed=2)
    np.testing.assert_array_equal(text, TEXT)
    np.testing.assert_array_equal(block.tokens, before[0])
    np.testing.assert_array_equal(block.laws.counts, before[1])


def test_no_rows_or_no_length_is_the_empty_block(drafter: OnnxDrafter) -> None:
    for num_rows, length in ((0, 4), (4, 0)):
        block = drafter.draft(TEXT, num_rows=num_rows, length=length, params=PARAMS, seed=1)
        assert (block.base, block.num_rows, block.length) == (30, 0, 0)


def test_the_window_can_be_filled_but_not_exceeded(pair: Pair, drafter: OnnxDrafter) -> None:
    text = np.random.default_rng(1).integers(0, VOCAB_SIZE, MAX_POSITIONS - 4)
    block = drafter.draft(text, num_rows=2, length=4, params=PARAMS, seed=1)
    assert_laws_are_the_models(block, text, pair, PARAMS)
    with pytest.raises(LimitExceeded, match="380 tokens and 5 drafted ones exceed the draft's 384 positions"):
        drafter.draft(text, num_rows=2, length=5, params=PARAMS, seed=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [([], "at least one token"), ([VOCAB_SIZE], "outside the draft's vocabulary"), ([-1], "outside")],
)
def test_a_text_that_cannot_be_drafted_from_is_refused(drafter: OnnxDrafter, text: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        drafter.draft(text, num_rows=1, length=1, params=PARAMS, seed=1)


def test_a_checkpoint_is_exported_once_and_again_when_it_changes(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(pair.checkpoint, tmp_path / "checkpoint")

    def exported() -> dict[Path, int]:
        OnnxDrafter.load(tmp_path / "checkpoint")
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("draft.onnx")}

    first = exported()
    assert len(first) == 1
    assert exported() == first
    os.utime(tmp_path / "checkpoint" / "model.safetensors", ns=(1, 1))
    assert len(exported()) == 2


def test_the_file_itself_names_a_draft_too(pair: Pair) -> None:
    assert OnnxDrafter.load(str(pair.exported / "draft.onnx")).vocab_size == VOCAB_SIZE


def test_a_folder_without_a_draft_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"has neither draft.onnx nor a checkpoint's config.json"):
        OnnxDrafter.load(tmp_path)


def test_another_file_is_not_a_draft(pair: Pair) -> None:
    with pytest.raises(InvalidInput, match=r"tokenizer.json is not a draft.onnx"):
        OnnxDrafter.load(pair.exported / "tokenizer.json")


def test_a_malformed_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "draft.onnx").write_bytes(b"no model")
    with pytest.raises(InvalidInput, match="not a model that ONNX Runtime can run"):
        OnnxDrafter.load(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "not written by `cactus export`"),
        ({"cactus.format": "0"}, "has format 0 and format 1 is read here"),
        ({"cactus.format": "1", "cactus.vocab_size": "many"}, "damaged metadata"),
    ],
)
def test_a_foreign_model_is_refused(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "foreign", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.save_model(model, tmp_path / "draft.onnx")
    with pytest.raises(InvalidInput, match=message):
        OnnxDrafter.load(tmp_path)


def test_a_provider_that_is_not_installed_is_named(pair: Pair) -> None:
    with pytest.raises(Unavailable, match="has no NoSuchProvider; choose among"):
        OnnxDrafter.load(pair.exported, providers=("NoSuchProvider",))


def test_laws_that_no_lattice_holds_are_refused(pair: Pair) -> None:
    with pytest.raises(InvalidInput, match="support_size must be 1 or more and bits between 1 and 16"):
        OnnxDrafter.load(pair.exported, bits=17)
