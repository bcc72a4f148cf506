"""How a user wants tokens to be sampled, and what that makes of a model's logits.

The order is that of `transformers`: temperature, then top-k, then top-p. Target and draft are shaped alike, each by its
own side: here in NumPy for the edge, in cloud/sampling.py in torch for the verifier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cactus_core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """`temperature` 0 means greedy; `top_k` 0 and `top_p` 1 mean no truncation."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.temperature <= 100.0):  # written so that NaN is refused too
            raise InvalidInput(f"temperature must be between 0 and 100, not {self.temperature}")
        if self.top_k < 0:
            raise InvalidInput(f"top_k must be 0 (off) or more, not {self.top_k}")
        if not (0.0 < self.top_p <= 1.0):
            raise InvalidInput(f"top_p must be above 0 and at most 1, not {self.top_p}")


def probabilities(logits: NDArray[np.floating], params: SamplingParams) -> NDArray[np.float64]:
    """The law that is sampled from, `[..., V]`, of `logits` `[..., V]`. Ties at the edge of top-k are all kept."""
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
