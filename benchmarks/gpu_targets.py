"""Targets of real models' shapes on a GPU, in bfloat16 with random weights: time does not depend on what weights are.

After token t such a target writes t + 1, by a margin that no rounding reaches: its laws are point masses, and the text that follows is
the same whatever was drafted and however steps were made up, which is what `benchmarks/replayed.py` rests on. Attention and MLP do all of
their work, and add to the residual stream too little to be seen.
Knows models; knows nothing of engines.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen3Config
from transformers.initialization import no_init_weights

from benchmarks.targets import Served, demo, served_beside_its_own, whisper
from cloud.attention import IMPLEMENTATION

_COMMON = {"vocab_size": 151_936, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 8192, "tie_word_embeddings": False}
SHAPES = {
    "Qwen3-8B": {"hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36, "num_attention_heads": 32},
    "Qwen3-0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
}
_SPREAD = 0.02
_SHARPNESS = 10.0  # of the logits: the next token is some hundreds of nats ahead


@torch.no_grad()
def shaped_as(name: str, *, device: str = "cuda", dtype: torch.dtype = torch.bfloat16, **shape: int) -> Served:
    """One of `SHAPES`, or another `shape`."""
    with no_init_weights(), torch.device(device):
        config = Qwen3Config(**(_COMMON | SHAPES.get(name, {}) | shape))
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=IMPLEMENTATION, dtype=dtype)
    model.requires_grad_(requires_grad=False)
    torch.manual_seed(0)
    for weights in model.parameters():
        weights.fill_(1.0) if weights.ndim == 1 else weights.normal_(0.0, _SPREAD)
    whisper(model)
    model.lm_head.weight.copy_(model.model.embed_tokens.weight.roll(1, 0))
    model.model.norm.weight.fill_(_SHARPNESS)
    # It writes for nobody, but a tokenizer has to be there.
    return served_beside_its_own(name, model, demo().target.tokenizer, num_threads=torch.get_num_threads())
