"""Small models with weights that float16 holds exactly, saved as transformers saves them, exported once a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from edge.exporting.export import export

VOCAB_SIZE = 96
MAX_POSITIONS = 384
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": MAX_POSITIONS,
    "initializer_range": 0.25,
    "use_cache": False,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Pair:
    """A model as transformers runs it, its checkpoint, and the folder it is exported to."""

    model: PreTrainedModel
    checkpoint: Path
    exported: Path


def _make(name: str) -> PreTrainedModel:
    match name:
        case "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**_SIZES, tie_word_embeddings=True))
        case "qwen3_untied_sharded_bfloat16":
            return Qwen3ForCausalLM(Qwen3Config(**_SIZES, tie_word_embeddings=False, attention_bias=True))
        case "llama_llama3_rope":
            return LlamaForCausalLM(LlamaConfig(**_SIZES, tie_word_embeddings=False, rope_parameters=_LLAMA3))
        case "llama_linear_rope_biased":
            rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
            biased = {"attention_bias": True, "mlp_bias": True}
            return LlamaForCausalLM(LlamaConfig(**_SIZES, tie_word_embeddings=True, rope_parameters=rope, **biased))
    raise ValueError(name)


@pytest.fixture(
    scope="session",
    params=["qwen3", "qwen3_untied_sharded_bfloat16", "llama_llama3_rope", "llama_linear_rope_biased"],
)
def any_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Each kind of model in turn."""
    return _pair(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One model, where its kind does not matter."""
    return _pair("qwen3", tmp_path_factory.mktemp("pair"))


def _pair(name: str, folder: Path) -> Pair:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = _make(name).eval().requires_grad_(False)
        for tensor_name, tensor in model.named_parameters():
            if tensor.ndim == 1:  # norms start at 1 and biases at 0: both would hide a mistake
                tensor.normal_(mean=0.0 if tensor_name.endswith("bias") else 1.0, std=0.3)
    bfloat16 = name.endswith("bfloat16")
    model.to(torch.bfloat16 if bfloat16 else torch.float16).save_pretrained(
        folder / "checkpoint", max_shard_size="30KB" if "sharded" in name else "1GB"
    )
    words = {f"w{i}": i for i in range(VOCAB_SIZE)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(folder / "checkpoint" / "tokenizer.json"))
    assert (folder / "checkpoint" / "model.safetensors").is_file() != ("sharded" in name)
    # Read back, not widened in place: that would leave the rotary frequencies rounded, which are not stored.
    widened = type(model).from_pretrained(folder / "checkpoint", dtype=torch.float32).eval().requires_grad_(False)
    return Pair(widened, folder / "checkpoint", export(folder / "checkpoint", folder / "exported"))
