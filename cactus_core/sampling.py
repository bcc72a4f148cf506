"""How a user wants tokens to be sampled, and what that makes of a model's logits.

The order is that of `transformers`: bias and penalties on the logits (cactus_core/penalties.py), then temperature, top-k,
top-p and min-p. vLLM has min-p before top-k and top-p, which then count what it kept. Target and draft are shaped alike,
each by its own side: here in NumPy for the edge, in cloud/laws.py in torch for the verifier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cactus_core.errors import InvalidInput

# OpenAI's bounds. The most biases are vLLM's: each is looked at for each row of a step.
_MAX_BIASES, _MAX_BIAS, _MAX_PENALTY = 300, 100.0, 2.0
_LEAST_TEMPERATURE, _MAX_TEMPERATURE = 1e-4, 100.0  # float32 divides by it
_MAX_REPETITION = 100.0


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """`temperature` 0 means greedy; `top_k` 0, `top_p` 1 and `min_p` 0 mean no truncation.

    `min_p` keeps tokens of at least that share of the likeliest one's probability. The presence and frequency penalties
    count what was emitted, the repetition penalty the prompt too; 0, 0 and 1 are none. `logit_bias` are pairs of a token id and what is
    added to its logit, each token once. Raises `InvalidInput` for what is out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        # All written so that NaN is refused too.
        if not (self.temperature == 0.0 or _LEAST_TEMPERATURE <= self.temperature <= _MAX_TEMPERATURE):
            raise InvalidInput(f"temperature must be 0 (greedy) or between {_LEAST_TEMPERATURE} and 100, not {self.temperature}")
        if self.top_k < 0:
            raise InvalidInput(f"top_k must be 0 (off) or more, not {self.top_k}")
        if not (0.0 < self.top_p <= 1.0):
            raise InvalidInput(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if not (0.0 <= self.min_p <= 1.0):
            raise InvalidInput(f"min_p must be between 0 (off) and 1, not {self.min_p}")
        for name, penalty in (("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)):
            if not abs(penalty) <= _MAX_PENALTY:
                raise InvalidInput(f"{name} must be between -2 and 2, not {penalty}")
        if not (1 / _MAX_REPETITION <= self.repetition_penalty <= _MAX_REPETITION):
            raise InvalidInput(f"repetition_penalty must be between 0.01 and 100, 1 being off, not {self.repetition_penalty}")
        if len(self.logit_bias) > _MAX_BIASES:
            raise InvalidInput(f"logit_bias may name at most {_MAX_BIASES} tokens, not {len(self.logit_bias)}")
        if len({token for token, _ in self.logit_bias}) < len(self.logit_bias):
            raise InvalidInput("logit_bias names a token twice; give each one bias")
        for token, bias in self.logit_bias:
            if token < 0 or not abs(bias) <= _MAX_BIAS:
                raise InvalidInput(f"logit_bias takes token ids and numbers between -100 and 100, not {token}: {bias}")

    @property
    def edits_logits(self) -> bool:
        """Whether anything is done to the logits before temperature."""
        return self.counts_tokens or bool(self.logit_bias)

    @property
    def counts_tokens(self) -> bool:
        """Whether the law depends on which tokens the text holds."""
        return (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) != (0.0, 0.0, 1.0)

    @property
    def truncates(self) -> bool:
        """Whether some tokens may never be drawn, however close to the others they are."""
        return self.temperature == 0.0 or self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0


def probabilities(logits: NDArray[np.floating], params: SamplingParams) -> NDArray[np.float64]:
    """The law that is sampled from, `[..., V]`, of `logits` `[..., V]` as penalties and biases have left them.

    Ties at the edge of top-k are all kept, at top-p's the lowest ids.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if params.temperature == 0.0:
        probs = np.zeros_like(logits)
        np.put_along_axis(probs, logits.argmax(-1)[..., None], 1.0, -1)
        return probs
    logits = (logits - logits.max(-1, keepdims=True)) / params.temperature
    if 0 < params.top_k < logits.shape[-1]:
        kth = np.partition(logits, -params.top_k, -1)[..., -params.top_k, None]
        logits = np.where(logits >= kth, logits, -np.inf)
    probs = np.exp(logits)
    probs /= probs.sum(-1, keepdims=True)
    if params.top_p < 1.0:
        probs = _nucleus(probs, params.top_p)
    if params.min_p > 0.0:
        probs = np.where(logits >= math.log(params.min_p), probs, 0.0)
        probs /= probs.sum(-1, keepdims=True)
    return probs


def _nucleus(probs: NDArray[np.float64], top_p: float) -> NDArray[np.float64]:
    """The fewest likeliest tokens whose mass reaches `top_p`, renormalised."""
    order = np.argsort(-probs, axis=-1, kind="stable")
    ordered = np.take_along_axis(probs, order, -1)
    before = np.cumsum(ordered, -1) - ordered
    kept = np.where(before < top_p, ordered, 0.0)
    out = np.empty_like(probs)
    np.put_along_axis(out, order, kept, -1)
    return np.asarray(out / out.sum(-1, keepdims=True))
