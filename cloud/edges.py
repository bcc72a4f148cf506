"""Where top-k, top-p and min-p cut rows of logits: at a value, and among the tokens of just that value at an id.

Knows logits and parameters; knows nothing of what is drawn from what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cactus_core.coins import Floats, Ints
from cactus_core.sampling import SamplingParams
from cloud.transfer import sent

# Nearly every nucleus is smaller than this. Of a vocabulary of 150,000, finding so many takes a twentieth of the time of sorting
# all of it; where they are too few, eight times as many take an eighth.
_LIKELY_NUCLEUS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """What is asked for, `[n]` each: `top_k` 1 to V, `top_p` in (0, 1], `min_p` in [0, 1]; V, 1 and 0 keep everything."""

    top_k: Ints
    top_p: Floats
    min_p: Floats

    @classmethod
    def asked_by(cls, params: Sequence[SamplingParams], vocab_size: int) -> Cuts:
        top_k = [min(each.top_k or vocab_size, vocab_size) for each in params]
        top_p, min_p = ([getattr(each, name) for each in params] for name in ("top_p", "min_p"))
        return cls(np.array(top_k, dtype=np.int64), np.array(top_p, dtype=np.float64), np.array(min_p, dtype=np.float64))

    def of(self, rows: Ints) -> Cuts:
        return Cuts(self.top_k[rows], self.top_p[rows], self.min_p[rows])


class Edges(NamedTuple):
    """Of each row `[n, 1]`: logits above `value` are kept, and of those equal to it the ids up to `last`: all, unless one `splits`."""

    value: Tensor
    last: Tensor
    splits: bool

    @classmethod
    def below_all(cls, num_rows: int, vocab_size: int, device: torch.device) -> Edges:
        """Everything is kept."""
        shape = num_rows, 1
        return cls(torch.full(shape, -torch.inf, device=device), torch.full(shape, vocab_size, device=device), splits=False)

    def of(self, rows: Tensor | slice) -> Edges:
        return Edges(self.value[rows], self.last[rows], self.splits)

    def put(self, rows: Tensor | slice, edges: Edges) -> Edges:
        """These, with `edges` in the place of `rows`. Mutates the tensors."""
        self.value[rows], self.last[rows] = edges.value, edges.last
        return self._replace(splits=self.splits or edges.splits)

    def kept(self, x: Tensor, ids: Tensor) -> Tensor:
        """Which of the logits `x` `[n, S]` of the tokens `ids` `[n, S]` or `[S]` are kept."""
        return (x > self.value) | ((x == self.value) & (ids <= self.last)) if self.splits else x >= self.value


def edges_of(x: Tensor, highest: Tensor, likeliest: Tensor, temperature: Tensor, cuts: Cuts) -> Edges:
    """The edges of rows of logits `x` `[n, V]`, float32. Each row's `highest` logit, its probability `likeliest` with nothing cut,
    and the `temperature` that divides it are `[n, 1]`.

    As in `cactus_core.sampling.probabilities`: top-k keeps all ties at its edge; top-p counts what that left, and keeps
    the lowest ids at its own; min-p keeps all ties.
    """
    vocab_size = x.shape[1]
    top_k, top_p, min_p = (sent(column, x.device)[:, None] for column in (cuts.top_k, cuts.top_p, cuts.min_p))
    edges = Edges.below_all(len(x), vocab_size, x.device)
    has_k, has_p = cuts.top_k < vocab_size, cuts.top_p < 1.0
    if has_k.any() or has_p.any():
        width = max(int(cuts.top_k[has_k].max(initial=0)), _LIKELY_NUCLEUS if (has_p & ~has_k).any() else 0)
        # One more than is kept, as a rule: an end is known by what comes after it.
        largest = x.topk(min(width + 1, vocab_size), -1).values
        at_k = largest.gather(-1, (top_k - 1).clamp(max=largest.shape[1] - 1))
        edges = edges._replace(value=torch.where(top_k < vocab_size, at_k, -torch.inf))
        if has_p.any():
            weights = _Weights(highest, likeliest, temperature)
            edges = _nucleus(x, largest, edges, weights, top_p)
    by_min_p = (highest + temperature * min_p.log()).float()
    is_higher = by_min_p > edges.value
    return edges._replace(value=torch.where(is_higher, by_min_p, edges.value), last=edges.last.masked_fill(is_higher, vocab_size))


class _Weights(NamedTuple):
    """exp((x - highest) / temperature), of which a whole row has 1 / likeliest."""

    highest: Tensor
    likeliest: Tensor
    temperature: Tensor

    def of(self, x: Tensor, edge: Tensor) -> Tensor:
        return ((x - self.highest).double() / self.temperature).exp_().masked_fill_(x < edge, 0.0)

    def above(self, edge: Tensor, x: Tensor, largest: Tensor) -> Tensor:
        """Of each row `[n, 1]` the sum from `edge` on, which is -inf for a whole one; `largest` of `x`, in order, nearly always hold it."""
        total = torch.where(edge > -torch.inf, self.of(largest, edge).sum(-1, keepdim=True), 1.0 / self.likeliest)
        has_more = (edge > -torch.inf) & (largest[:, -1:] >= edge)
        return torch.where(has_more, self.of(x, edge).sum(-1, keepdim=True), total) if has_more.any() else total


def _nucleus(x: Tensor, largest: Tensor, edges: Edges, weights: _Weights, top_p: Tensor) -> Edges:
    """The edges of each row's fewest likeliest tokens, of those above `edges`, whose mass reaches `top_p` `[n, 1]`; 1 changes nothing.

    `largest` are the row's largest logits, in order.
    """
    vocab_size, total = x.shape[1], weights.above(edges.value, x, largest)
    while True:
        share = weights.of(largest, edges.value).div_(total)
        num_kept = ((share.cumsum(-1) - share < top_p) & (largest >= edges.value)).sum(-1, keepdim=True)
        width = largest.shape[1]
        if width == vocab_size or ((num_kept < width) | (top_p >= 1.0)).all():
            break
        largest = x.topk(min(8 * width, vocab_size), -1).values
    value, after = largest.gather(-1, num_kept - 1), largest.gather(-1, num_kept.clamp(max=width - 1))
    is_split = (after == value) & (num_kept < width) & (top_p < 1.0)
    edges = edges._replace(value=torch.where(top_p < 1.0, value, edges.value))
    if not is_split.any():
        return edges
    # Several tokens have the edge's value: the lowest ids fill the places that are left.
    places_left = num_kept - (x > value).sum(-1, keepdim=True)
    filled = ((x == value).cumsum(-1) < places_left).sum(-1, keepdim=True)
    return edges._replace(last=torch.where(is_split, filled, edges.last), splits=True)
