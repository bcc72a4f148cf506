"""`generate` of `transformers` on the demo pair: the baseline that nobody has to install anything for.

It runs with its own cache and attention, as fast as its options make it. Knows models; knows nothing of what it is compared with.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from cactus_core.demo_pair import demo_model


def generate(prompts: list[list[int]], num_tokens: int, temperature: float, **options: Any) -> None:
    """All prompts as one batch, each continued by `num_tokens`; temperature 0 is greedy."""
    tokenizer = _tokenizer()
    inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    texts = _model("target").generate(**inputs, max_new_tokens=num_tokens, pad_token_id=tokenizer.pad_token_id, **sampling, **options)
    if texts.shape[1] != inputs["input_ids"].shape[1] + num_tokens:
        raise RuntimeError("generate ended early: its tokens per second would be another's")


def generate_assisted(prompt: list[int], num_tokens: int, temperature: float, num_assistant_tokens: int | None) -> None:
    """One prompt, the draft assisting with so many tokens a round whatever its confidence; None leaves both as they come."""
    settings = _model("draft").generation_config
    settings.num_assistant_tokens = num_assistant_tokens
    settings.assistant_confidence_threshold = None if num_assistant_tokens is None else 0.0
    generate([prompt], num_tokens, temperature, assistant_model=_model("draft"))


@cache
def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(demo_model("target"))


@cache
def _model(role: Literal["target", "draft"]) -> Any:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(demo_model(role), dtype=torch.float32, attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = None  # no text ends early
    model.generation_config.use_cache = True  # training left it off
    return model
