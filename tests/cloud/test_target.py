from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from cactus_core.errors import CactusError, InvalidInput, LimitExceeded, Unavailable, Unsupported
from cloud.dtype import DType
from cloud.pages import PAGE_SIZE, PageTable
from cloud.segment import Segment, chain
from cloud.target import TargetModel
from tests.cloud.conftest import MAX_POSITIONS, VOCAB_SIZE, Pair, save_tokenizer
from tests.core.drafts import path_to

TOLERANCE = 1e-4


def expected_logits(pair: Pair, text: list[int], tokens: list[int], parents: list[int]) -> torch.Tensor:
    """`[n, V]` of a tree's nodes, each leaf's path run through the plain model as a sequence by itself."""
    rows = torch.empty(len(tokens), VOCAB_SIZE)
    for leaf in set(range(len(tokens))) - set(parents):
        path = path_to(parents, leaf)
        logits = pair.logits(text + [tokens[node] for node in path])
        rows[path] = logits[len(text) :]
    return rows


TREE = [-1, 0, 0, 1, 2, 2, 5, -1, 4, 7]


def read_in_parts(pair: Pair, text: list[int], tokens: list[int], parents: list[int], cuts: list[int]) -> torch.Tensor:
    """`[n, V]` of a tree's nodes after a text, read in the steps that `cuts` make, another session's prompt in each of them."""
    pool = pair.target.new_pool(40)
    table = PageTable(pool)
    if text:
        pair.target.forward([chain(table, text)])
        table.commit(range(len(text)))
    rows = []
    for start, stop in pairwise([0, *cuts, len(tokens)]):
        part = Segment(table, np.array(tokens[start:stop]), np.array(parents[:stop]), num_before=start)
        rows.append(pair.target.forward([chain(PageTable(pool), [start] * 20, num_logits=0), part]))
    return torch.cat(rows)


@given(text=st.integers(0, 40), cuts=st.sets(st.integers(1, len(TREE) - 1)).map(sorted), is_chain=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_tree_read_in_parts_is_the_tree(qwen3: Pair, text: int, cuts: list[int], is_chain: bool) -> None:
    parents = list(range(-1, len(TREE) - 1)) if is_chain else TREE
    chance = np.random.default_rng(text)
    past, tokens = (chance.integers(0, VOCAB_SIZE, size).tolist() for size in (text, len(parents)))
    logits = read_in_parts(qwen3, past, tokens, parents, cuts)
    assert torch.allclose(logits, read_in_parts(qwen3, past, tokens, parents, []), rtol=0, atol=TOLERANCE)
    assert torch.allclose(logits, expected_logits(qwen3, past, tokens, parents), rtol=0, atol=TOLERANCE)


def test_a_part_of_a_tree_whose_beginning_no_step_wrote_is_a_bug(qwen3: Pair) -> None:
    table = PageTable(qwen3.target.new_pool(1))
    table.reserve(2)
    table.advance(1)
    part = Segment(table, np.array([3]), np.array([-1, 0, 1]), num_before=2)
    with pytest.raises(ValueError, match="no step has written"):
        qwen3.target.forward([part])


def test_memory_holds_as_many_pages_as_fit(qwen3: Pair) -> None:
    pool = qwen3.target.new_pool(3)
    memory_bytes = pool.keys.nbytes + pool.values.nbytes
    assert qwen3.target.num_pages_in(memory_bytes) == 3
    assert qwen3.target.num_pages_in(memory_bytes - 1) == 2
    least = memory_bytes - 2 * memory_bytes * PAGE_SIZE // (3 * PAGE_SIZE + 1)  # one page and the spare slot
    assert qwen3.target.num_pages_in(least) == 1
    with pytest.raises(InvalidInput, match=f"{least} or more"):
        qwen3.target.num_pages_in(least - 1)


def test_a_prompt_read_in_chunks_is_the_prompt(pair: Pair) -> None:
    tokens = np.random.default_rng(0).integers(0, VOCAB_SIZE, 200).tolist()
    table = PageTable(pair.target.new_pool(13))
    rows = []
    for start, stop in pairwise([0, 64, 65, 150, 200]):
        rows.append(pair.target.forward([chain(table, tokens[start:stop])]))
        table.commit(range(stop - start))
    assert torch.allclose(torch.cat(rows), pair.logits(tokens), rtol=0, atol=TOLERANCE)


def test_only_the_logits_that_are_wanted_come_back(pair: Pair) -> None:
    pool = pair.target.new_pool(10)
    tokens = [3, 1, 4, 1, 5]
    some = [chain(PageTable(pool), tokens, num_logits=wanted) for wanted in (0, 2, 5)]
    logits = pair.target.forward(some)
    alone = pair.logits(tokens)
    assert torch.allclose(logits, torch.cat([alone[3:], alone]), rtol=0, atol=TOLERANCE)
    assert pair.target.forward([chain(PageTable(pool), tokens, num_logits=0)]).shape == (0, VOCAB_SIZE)
    assert pair.target.forward([]).shape == (0, VOCAB_SIZE)


def test_a_session_that_overflows_harms_no_other(qwen3: Pair) -> None:
    pool = qwen3.target.new_pool(8)
    sick, sound = PageTable(pool), PageTable(pool)
    for table, length in ((sick, 9), (sound, 7)):
        qwen3.target.forward([chain(table, [2] * length)])
        table.commit(range(length))
    pool.values[:, :, torch.from_numpy(sick.slots(0, 9))] = torch.inf
    logits = qwen3.target.forward([chain(sick, [3]), chain(sound, [3])])
    assert torch.allclose(logits[1], qwen3.logits([2] * 7 + [3])[-1], rtol=0, atol=TOLERANCE)
    assert not logits[0].isfinite().any()


def test_a_step_that_does_not_fit_changes_nothing(qwen3: Pair) -> None:
    pool = qwen3.target.new_pool(2)
    tables = PageTable(pool), PageTable(pool)
    keys = pool.keys.clone()
    with pytest.raises(LimitExceeded):
        qwen3.target.forward([chain(tables[0], [1] * 10), chain(tables[1], [1] * 20)])
    assert (pool.num_free_pages, tables[0].num_reserved, tables[1].num_reserved) == (2, 0, 0)
    assert torch.equal(pool.keys, keys)


def test_positions_the_model_does_not_have_are_refused(qwen3: Pair) -> None:
    pool = qwen3.target.new_pool(40)
    table = PageTable(pool)
    with pytest.raises(LimitExceeded, match=f"{MAX_POSITIONS} positions, and {MAX_POSITIONS + 1} are asked for"):
        qwen3.target.forward([chain(table, [1] * (MAX_POSITIONS + 1))])
    assert pool.num_free_pages == 40
    qwen3.target.forward([Segment(table, np.ones(MAX_POSITIONS + 1, int), np.full(MAX_POSITIONS + 1, -1), 1)])


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE])
def test_a_token_that_is_none_is_refused_and_changes_nothing(qwen3: Pair, token: int) -> None:
    pool = qwen3.target.new_pool(1)
    with pytest.raises(InvalidInput, match="between 0 and 60"):
        qwen3.target.forward([chain(PageTable(pool), [1, token])])
    assert pool.num_free_pages == 1


def test_one_table_cannot_be_twice_in_a_step(qwen3: Pair) -> None:
    table = PageTable(qwen3.target.new_pool(2))
    with pytest.raises(ValueError, match="one segment a table"):
        qwen3.target.forward([chain(table, [1]), chain(table, [2])])


def test_a_loaded_target_tells_what_it_is(qwen3: Pair, llama: Pair) -> None:
    target = qwen3.target
    assert (target.model_id, target.vocab_size, target.max_positions) == (qwen3.path.name, VOCAB_SIZE, MAX_POSITIONS)
    assert (target.device, target.dtype) == (torch.device("cpu"), torch.float32)
    assert target.vocabulary["w5"] == 5
    assert len(target.vocabulary) < target.vocab_size  # the model's is padded
    assert target.tokenizer.decode([5]) == "w5"
    assert (target.eos_token_ids, llama.target.eos_token_ids) == ({0}, {0, 7})


def test_bfloat16_follows_float32(qwen3: Pair) -> None:
    target = TargetModel.load(str(qwen3.path), device="auto", dtype=DType.BFLOAT16)
    tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    logits = target.forward([chain(PageTable(target.new_pool(1)), tokens)])
    assert logits.dtype == torch.bfloat16
    expected = qwen3.logits(tokens)
    assert (logits.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_loading_says_nothing_and_leaves_logging_as_it_was(qwen3: Pair, capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.get_verbosity()
    TargetModel.load(str(qwen3.path))
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == before


TINY = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
REFUSED = {
    "qwen2": (
        {"intermediate_size": 16, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        "sliding_attention",
    ),
    "mistral": ({"intermediate_size": 16, "sliding_window": 8}, "sliding_attention"),
    "gemma2": ({"intermediate_size": 16, "head_dim": 8}, "sliding_attention"),
    "mamba": ({"state_size": 4}, "linear_attention"),
    "rwkv": ({}, "recurrent"),
    "qwen3_next": ({}, "linear_attention"),
    "bloom": ({}, "a way of its own"),
    "t5": ({}, "not a causal language model"),
    "bart": ({}, "not a causal language model"),
    "deepseek_v3": (
        {"intermediate_size": 16, "num_key_value_heads": 2, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4}
        | {"qk_nope_head_dim": 8, "v_head_dim": 8, "moe_intermediate_size": 8, "n_routed_experts": 4, "n_group": 1}
        | {"topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 2},
        "unequal or changing shapes",
    ),
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_rolled_back_or_masked_is_refused_in_one_line(family: str, tmp_path: Path) -> None:
    special, reason = REFUSED[family]
    config = AutoConfig.for_model(family, **TINY | special)
    config.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    if family == "deepseek_v3":  # the configuration does not show it: a trial does
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(Unsupported, match=reason) as caught:
        TargetModel.load(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert "serve a " in str(caught.value)


def test_full_attention_in_a_family_that_can_slide_is_served(tmp_path: Path) -> None:
    config = AutoConfig.for_model("mistral", **TINY, intermediate_size=16, sliding_window=None)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert TargetModel.load(str(tmp_path)).vocab_size == 32


def refusal(name: str) -> CactusError:
    with pytest.raises(CactusError) as caught:
        TargetModel.load(name)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_target_split_over_processes_is_refused(qwen3: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = refusal(str(qwen3.path))
    assert isinstance(error, Unsupported)
    assert "a replica for each GPU" in str(error)


def test_a_path_without_a_model_is_said_to_be_one(tmp_path: Path) -> None:
    assert isinstance(refusal(str(tmp_path / "nowhere")), InvalidInput)
    assert isinstance(refusal(str(tmp_path)), InvalidInput)


def test_a_checkpoint_that_lacks_weights_is_not_filled_with_noise(llama: Pair, tmp_path: Path) -> None:
    shutil.copytree(llama.path, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    error = refusal(str(tmp_path))
    assert isinstance(error, InvalidInput)
    assert "lacks" in str(error)


def test_a_checkpoint_cut_short_is_said_to_be_not_whole(qwen3: Pair, tmp_path: Path) -> None:
    shutil.copytree(qwen3.path, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:1000])
    assert isinstance(refusal(str(tmp_path)), InvalidInput)


def test_a_hub_out_of_reach_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("cannot connect\nsee the manual") from ConnectionError()

    monkeypatch.setattr(AutoConfig, "from_pretrained", offline)
    error = refusal("nobody/nothing")
    assert isinstance(error, Unavailable)
    assert "check the network" in str(error)
