"""What the user's sampling parameters make of the target's logits: the batched twin of cactus_core/sampling.py.

Knows logits `[N, V]` and parameters; knows nothing of sessions, drafts or coins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cactus_core.sampling import SamplingParams

# Nearly every nucleus is smaller than this, and finding the largest few costs a tenth of sorting a vocabulary of 150,000.
_LIKELY_NUCLEUS = 1024


def probabilities(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """The laws that are sampled from, `[N, V]` float32 on the logits' device: row i of `logits` as `params[i]` shape it.

    The same as `cactus_core.sampling.probabilities` row by row, up to float32: temperature, top-k with all ties at its
    edge, top-p with ties at its edge by the lowest id, temperature 0 all on the first maximum. float32 because float64
    takes four times as long over a vocabulary of 150,000. Raises `ValueError` unless there is one `params` a row.
    """
    if len(params) != len(logits):
        raise ValueError(f"{len(logits)} rows of logits need as many sampling parameters, not {len(params)}")
    vocab_size = logits.shape[-1]
    greedy = [p.temperature == 0.0 for p in params]
    if all(greedy):
        return _one_hot(logits)
    temperatures = [1.0 if p.temperature == 0.0 else p.temperature for p in params]
    top_k = [p.top_k if 0 < p.top_k < vocab_size and p.temperature > 0.0 else vocab_size for p in params]
    top_p = [p.top_p if p.temperature > 0.0 else 1.0 for p in params]

    scaled = logits.float()
    if any(t != 1.0 for t in temperatures):
        # The maximum goes first, as in the core: a temperature near 0 may then only underflow.
        scaled = (scaled - scaled.amax(-1, keepdim=True)).div_(_column(temperatures, logits, torch.float32))
    if min(top_k) < vocab_size:
        scaled = _keep_top_k(scaled, top_k)
    probs = torch.softmax(scaled, -1)
    if min(top_p) < 1.0:
        probs = _keep_top_p(probs, _column(top_p, logits, torch.float64))
    if any(greedy):
        probs = torch.where(torch.tensor(greedy, device=logits.device)[:, None], _one_hot(logits), probs)
    return probs


def _keep_top_k(scaled: Tensor, top_k: Sequence[int]) -> Tensor:
    """-inf for what is below each row's k-th largest; a k of V keeps the row whole."""
    vocab_size = scaled.shape[-1]
    limits = [k if k < vocab_size else 0 for k in top_k]
    largest = scaled.topk(max(limits), -1).values
    places = torch.tensor(limits, device=scaled.device)[:, None]
    edge = largest.gather(-1, (places - 1).clamp(min=0))
    return scaled.masked_fill((scaled < edge) & (places > 0), float("-inf"))


def _keep_top_p(probs: Tensor, top_p: Tensor) -> Tensor:
    """Each row's fewest likeliest tokens whose mass reaches `top_p` `[N, 1]`, renormalised; 1 keeps the row whole."""
    vocab_size = probs.shape[-1]
    for width in (min(_LIKELY_NUCLEUS, vocab_size), vocab_size):
        largest = probs.topk(width, -1).values.double()
        before = largest.cumsum(-1) - largest
        num_kept = (before < top_p).sum(-1, keepdim=True)
        if width == vocab_size or ((num_kept < width) | (top_p >= 1.0)).all():
            break
    edge, next_value = largest.gather(-1, num_kept - 1), largest.gather(-1, num_kept.clamp(max=width - 1))
    kept = probs >= edge.float()
    if ((next_value == edge) & (num_kept < width) & (top_p < 1.0)).any():
        # The edge is a value, and several tokens have it: the lowest ids fill the places that are left.
        at_edge = probs == edge.float()
        places_left = num_kept - (kept & ~at_edge).sum(-1, keepdim=True)
        kept &= ~at_edge | (at_edge.cumsum(-1) <= places_left)
    truncated = probs.masked_fill(~kept & (top_p < 1.0), 0.0)
    return truncated.div_(truncated.sum(-1, keepdim=True))


def _one_hot(logits: Tensor) -> Tensor:
    return torch.zeros(logits.shape, dtype=torch.float32, device=logits.device).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)


def _column(values: Sequence[float], logits: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=logits.device)[:, None]
