"""Linear layers laid out for a CPU compute what `torch`'s do, and nothing else in a model changes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from cactus_core.demo_pair import demo_model
from cloud.checkpoint import load_checkpoint
from cloud.packed_linear import PackedLinear, pack_linears

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN kernels here")


@pytest.mark.parametrize("num_rows", [1, 7, 64, 200])
@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_a_packed_layer_computes_what_the_layer_does(num_rows: int, bias: bool) -> None:
    torch.manual_seed(num_rows)
    linear = nn.Linear(96, 130, bias=bias)
    x = torch.randn(2, num_rows, 96)
    torch.testing.assert_close(PackedLinear(linear)(x), linear(x), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 kernels for this processor")
@torch.inference_mode()
def test_so_it_does_in_bfloat16() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 130, dtype=torch.bfloat16))
    x = torch.randn(20, 96, dtype=torch.bfloat16)
    expected = model(x)
    assert pack_linears(model) == 1
    torch.testing.assert_close(model(x), expected, atol=1e-2, rtol=1e-2)


@torch.inference_mode()
def test_a_model_gives_the_same_logits_with_its_layers_packed() -> None:
    model: Any
    model, _ = load_checkpoint(demo_model("target"), torch.float32)
    model.set_attn_implementation("sdpa")
    tokens = torch.arange(40)[None] + 5
    before = model(input_ids=tokens, use_cache=False).logits
    assert pack_linears(model) == 7 * model.config.num_hidden_layers + 1
    assert not any(type(module) is nn.Linear for module in model.modules())
    after = model(input_ids=tokens, use_cache=False).logits
    torch.testing.assert_close(after, before, atol=2e-4, rtol=1e-4)


def test_a_weight_that_nothing_else_holds_is_freed() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    weight = weakref.ref(model[0].weight)
    pack_linears(model)
    gc.collect()
    assert weight() is None


class _Quantised(nn.Linear):
    """As libraries for few bits have them."""


def test_layers_of_another_kind_or_precision_stay_as_they_are() -> None:
    model = nn.Sequential(_Quantised(4, 4), nn.Linear(4, 4, dtype=torch.float16), nn.Linear(4, 4))
    assert pack_linears(model) == 1
    assert [type(module) for module in model] == [_Quantised, nn.Linear, PackedLinear]
