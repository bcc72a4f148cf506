"""What a CPU is spared of a decoder's operations changes none of its logits."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cactus_core.errors import Unsupported
from cloud.attention import IMPLEMENTATION
from cloud.checkpoint import load_checkpoint
from cloud.dense_decoder import DenseDecoder
from cloud.dtype import DType
from cloud.pages import PageTable
from cloud.segment import chain
from cloud.target import TargetModel
from tests.cloud.conftest import SHAPE, VOCAB_SIZE, Pair, make_pair

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN kernels here")

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def model_of(family: str, **special: Any) -> Any:
    """Random weights, norms and biases included: those that models begin with would hide what is left out."""
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **SHAPE | {"num_key_value_heads": 2} | special)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=IMPLEMENTATION, dtype=torch.float32).eval()
    for weights in model.requires_grad_(False).parameters():
        weights.add_(torch.randn_like(weights), alpha=0.2)
    return model


@pytest.mark.parametrize(
    ("family", "special"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"rope_parameters": LLAMA3, "head_dim": 16, "tie_word_embeddings": True}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {"rope_parameters": YARN}),
        ("qwen3", {"head_dim": 12, "tie_word_embeddings": True}),
        ("qwen3", {"rms_norm_eps": 0.3, "attention_bias": True}),
    ],
)
@torch.inference_mode()
def test_logits_are_those_of_the_models_own_code(tmp_path: Path, family: str, special: dict[str, Any]) -> None:
    pair = make_pair(tmp_path, model_of(family, **special))
    assert pair.target._dense is not None
    tokens = np.random.default_rng(0).integers(0, VOCAB_SIZE, 90)
    found = pair.target.forward([chain(PageTable(pair.target.new_pool(6)), tokens, num_logits=50)])
    expected = pair.logits(tokens.tolist())[-50:]
    torch.testing.assert_close(found, expected, atol=2e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 kernels for this processor")
@pytest.mark.parametrize("family", ["llama", "qwen3"])
@torch.inference_mode()
def test_in_bfloat16_logits_are_no_further_from_float32_than_the_models_own(tmp_path: Path, family: str) -> None:
    pair = make_pair(tmp_path, model_of(family))
    target = TargetModel.load(str(pair.path), dtype=DType.BFLOAT16)
    assert target._dense is not None
    tokens = np.random.default_rng(0).integers(0, VOCAB_SIZE, 90)
    pool = target.new_pool(12)
    tables = [PageTable(pool) for _ in range(2)]
    found = target.forward([chain(table, tokens, num_logits=50) for table in tables]).float()
    expected = pair.logits(tokens.tolist())[-50:]
    own = pair.plain.bfloat16()(input_ids=torch.from_numpy(tokens)[None], use_cache=False).logits[0, -50:].float()
    for logits in (found[:50], found[50:]):
        assert (logits - expected).square().mean() < 1.2 * (own - expected).square().mean()


@pytest.mark.parametrize(
    ("family", "special"),
    [
        ("gpt2", {}),
        ("olmo2", {}),  # of which some norms come later
        ("qwen3", {"hidden_act": "gelu"}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}),
    ],
)
def test_other_decoders_keep_their_own_code(family: str, special: dict[str, Any]) -> None:
    assert not DenseDecoder.takes(model_of(family, **special))
    assert not DenseDecoder.takes(model_of("llama").half())


def test_weights_that_were_laid_out_are_freed() -> None:
    model = model_of("qwen3")
    layer = model.model.layers[0]
    weights = [weakref.ref(weight) for weight in (layer.self_attn.k_proj.weight, layer.mlp.up_proj.weight, model.lm_head.weight)]
    del layer
    decoder = DenseDecoder(model)
    gc.collect()
    assert decoder is not None
    assert [weight() for weight in weights] == [None, None, None]


def test_code_that_computes_anything_else_is_refused(qwen3: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load_checkpoint(str(qwen3.path), torch.float32)
    layer = type(model.model.layers[0])
    own = layer.forward
    monkeypatch.setattr(layer, "forward", lambda self, x, **rest: own(self, x, **rest) + 0.1 * x)  # as a later version might
    with pytest.raises(Unsupported, match="install earlier ones"):
        TargetModel(model, tokenizer, "changed")
