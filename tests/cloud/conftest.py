"""Tiny models of two families, saved and loaded as a user's own would be, each beside its plain twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from cloud.target import TargetModel

VOCAB_SIZE = 61
MAX_POSITIONS = 512
SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_POSITIONS,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}


class Pair(NamedTuple):
    """A served target, and the same weights under `transformers`' own attention."""

    target: TargetModel
    plain: Any
    path: Path

    def logits(self, tokens: list[int]) -> torch.Tensor:
        """`[n, V]` of one sequence by itself."""
        with torch.inference_mode():
            return self.plain(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]


def save_tokenizer(path: Path) -> None:
    words = {f"w{i}": i for i in range(VOCAB_SIZE - 3)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w0", unk_token="w1").save_pretrained(path)


def make_pair(path: Path, model: Any) -> Pair:
    model.float().save_pretrained(path)
    save_tokenizer(path)
    plain = type(model).from_pretrained(path, attn_implementation="eager", dtype=torch.float32).eval()
    return Pair(TargetModel.load(str(path)), plain, path)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Grouped queries, heads wider than hidden / heads, tied embeddings."""
    torch.manual_seed(0)
    config = Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
    config.initializer_range = 0.2  # wide enough that a wrong mask shows
    return make_pair(tmp_path_factory.mktemp("qwen3"), Qwen3ForCausalLM(config))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A key head for each query head, a head of its own for the logits, two ways to end a text."""
    torch.manual_seed(1)
    config = LlamaConfig(**{**SHAPE, "eos_token_id": [0, 7]}, num_key_value_heads=4, tie_word_embeddings=False)
    config.initializer_range = 0.2
    return make_pair(tmp_path_factory.mktemp("llama"), LlamaForCausalLM(config))


@pytest.fixture(params=["qwen3", "llama"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.getfixturevalue(request.param)
