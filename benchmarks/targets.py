"""The targets that the verifier's claims are tried on: the demo pair's, and one of 470 million parameters with random weights.

Time does not depend on what the weights are, so the large one is made here and never saved. It writes the last token again, by a
margin that no type's rounding reaches: its laws are point masses, and the text that follows is the same whatever was drafted and
however steps were made up, which is what `benchmarks/replayed.py` rests on. Attention and MLP do all of their work, and add to the
residual stream too little to be seen.
Knows models; knows nothing of engines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen3Config
from transformers.initialization import no_init_weights

from cactus_core.demo_pair import demo_model
from cactus_core.sampling import SamplingParams
from cactus_core.session import Request
from cloud.attention import IMPLEMENTATION
from cloud.checkpoint import load_checkpoint
from cloud.own_thread import in_own_thread
from cloud.target import TargetModel

# The layers of Qwen3-0.6B, under a vocabulary that leaves most of the work to them.
_LARGE = {
    "vocab_size": 32_768,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
_SPREAD = 0.02  # of the weights, as models of this family begin
_NUM_RANDOM = 1_000_003  # numbers drawn, then repeated: a prime, so that no two rows of a matrix are the same
_WHISPER = 1e-3  # of what a layer adds, against what it would
_SHARPNESS = 1e6  # of the logits: the likeliest token is hundreds of nats ahead of the next


@dataclass(frozen=True, slots=True)
class Served:
    """A target, and a `model` of the same weights with `transformers`' own layers and attention. No text ends before its request's last
    token.

    `num_threads` is how many cores it runs on.
    """

    name: str
    target: TargetModel
    model: Any
    num_threads: int

    @property
    def dtype(self) -> str:
        return str(self.target.dtype).removeprefix("torch.")

    @property
    def num_parameters(self) -> int:
        return int(sum(parameter.numel() for parameter in self.model.parameters()))

    def request(self, prompt: list[int], max_tokens: int, *, temperature: float = 1.0, seed: int = 0) -> Request:
        return Request(tuple(prompt), max_tokens, seed, self.target.fingerprint, sampling=SamplingParams(temperature))

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Torch runs on `num_threads` cores."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.num_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @torch.inference_mode()
    def bare_forward(self, num_tokens: int) -> None:
        """The model's own forward with its own attention on one causal sequence, logits of every token included."""
        tokens = torch.arange(num_tokens, device=self.target.device) % self.target.vocab_size
        self.model(input_ids=tokens[None], use_cache=False)


@cache
def demo() -> Served:
    return in_own_thread(_demo)


def _demo() -> Served:
    model, tokenizer = load_checkpoint(demo_model("target"), torch.float32)
    return served_beside_its_own("demo", model, tokenizer, num_threads=1)


@cache
def large(dtype: torch.dtype) -> Served:
    return in_own_thread(partial(random_target, "random", dtype, num_threads=2))


@torch.no_grad()
def random_target(name: str, dtype: torch.dtype = torch.float32, *, num_threads: int, **shape: int) -> Served:
    """The large target, of another `shape` where one is given."""
    with no_init_weights():
        config = Qwen3Config(**(_LARGE | shape))
        model = AutoModelForCausalLM.from_config(config, attn_implementation=IMPLEMENTATION, dtype=dtype)
    model.tie_weights()
    numbers = torch.empty(_NUM_RANDOM).normal_(0.0, _SPREAD, generator=torch.Generator().manual_seed(0))
    for weights in model.requires_grad_(False).parameters():
        if weights.ndim == 1:
            weights.fill_(1.0)
            continue
        row = weights.view(-1)
        for start in range(0, len(row), _NUM_RANDOM):
            row[start : start + _NUM_RANDOM] = numbers[: len(row) - start]
    whisper(model)
    model.model.norm.weight.fill_(_SHARPNESS)
    # It writes for nobody, but a tokenizer has to be there.
    return served_beside_its_own(name, model, demo().target.tokenizer, num_threads=num_threads)


@torch.no_grad()
def whisper(model: Any) -> None:
    """What its layers add to the residual stream becomes too little to be seen, so that the last token alone says which is next."""
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.mul_(_WHISPER)
        layer.mlp.down_proj.weight.mul_(_WHISPER)


def served_beside_its_own(name: str, model: Any, tokenizer: Any, *, num_threads: int) -> Served:
    """Takes over `model`, and keeps one of the same weights with `transformers`' own attention: what serves a model changes it."""
    own = deepcopy(model, {id(weights): weights for weights in model.parameters()})
    own.set_attn_implementation("sdpa")
    target = TargetModel(model, tokenizer, name)
    target.eos_token_ids = frozenset()
    return Served(name, target, own, num_threads)
