"""The draft's law at a place, on its likeliest tokens.

Knows logits and how a user wants tokens to be sampled; knows nothing of models, blocks or trees.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Floats, Ints
from cactus_core.lattice import LatticeLaws, quantise
from cactus_core.sampling import SamplingParams, probabilities


def likeliest(logits: NDArray[np.floating], params: SamplingParams, support_size: int) -> tuple[Ints, Floats]:
    """The likeliest tokens `[N, S]`, in no order, and probabilities in proportion `[N, S]`, of `logits` `[N, V]` as penalties left them.

    S is `support_size`, or V where that is less. Tokens that `params` rule out have probability 0.
    """
    size = min(support_size, logits.shape[-1])
    kept = np.argpartition(logits, -size, axis=-1)[:, -size:]
    narrow = np.take_along_axis(logits, kept, -1)
    # What is kept is chosen first: softmax and sorting over V would take many times as long.
    if params.temperature == 0.0 or params.top_p == 1.0:
        return kept, probabilities(narrow, params)
    if params.top_k > size:
        return kept, np.take_along_axis(probabilities(logits, params), kept, -1)
    # A nucleus is measured against the mass of all that top-k leaves: of what is kept it is the larger share.
    shares = np.ones(len(logits)) if params.top_k > 0 else _mass(narrow, params.temperature) / _mass(logits, params.temperature)
    rows = [
        probabilities(row, replace(params, top_p=min(1.0, params.top_p / share)))
        for row, share in zip(narrow, shares.tolist(), strict=True)
    ]
    return kept, np.stack(rows)


def _mass(logits: NDArray[np.floating], temperature: float) -> Floats:
    """`[N]`: what softmax divides by, in units of the likeliest token's weight."""
    return np.asarray(np.exp((logits - logits.max(-1, keepdims=True)) / temperature).sum(-1, dtype=np.float64))


def on_lattice(ids: Ints, probs: Floats, bits: int) -> LatticeLaws:
    """The lattice laws nearest to `probs` `[N, S]` of the tokens `ids` `[N, S]`; what has probability 0 may be any token."""
    order = np.argsort(ids, axis=-1, kind="stable")
    ids = np.take_along_axis(ids, order, -1)
    laws = quantise(np.take_along_axis(probs, order, -1), ids.shape[-1], bits)
    return LatticeLaws(np.where(laws.counts > 0, np.take_along_axis(ids, laws.ids, -1), 0), laws.counts, bits)
