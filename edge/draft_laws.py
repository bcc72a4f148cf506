"""The draft's law at a place, on its likeliest tokens.

Knows logits and how a user wants tokens to be sampled; knows nothing of models, blocks or trees.
"""

from __future__ import annotations

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
    if params.temperature > 0.0 and params.top_p < 1.0:
        # A nucleus is measured against the mass of the whole vocabulary.
        return kept, np.take_along_axis(probabilities(logits, params), kept, -1)
    # Otherwise the likeliest tokens' law needs no others. Choosing them first is several times as fast: no softmax over V.
    return kept, probabilities(np.take_along_axis(logits, kept, -1), params)


def lattice_laws(logits: NDArray[np.floating], params: SamplingParams, support_size: int, bits: int) -> LatticeLaws:
    """The lattice laws nearest to `likeliest`."""
    kept, probs = likeliest(logits, params, support_size)
    order = np.argsort(kept, axis=-1)
    ids = np.take_along_axis(kept, order, -1)
    laws = quantise(np.take_along_axis(probs, order, -1), ids.shape[-1], bits)
    return LatticeLaws(np.where(laws.counts > 0, np.take_along_axis(ids, laws.ids, -1), 0), laws.counts, bits)


def joined(laws: list[LatticeLaws]) -> LatticeLaws:
    """All laws in one, as wide as the widest."""
    num_laws, width = sum(len(law.ids) for law in laws), max(law.ids.shape[1] for law in laws)
    ids, counts = np.zeros((2, num_laws, width), dtype=np.int64)
    start = 0
    for law in laws:
        place = np.s_[start : start + len(law.ids), : law.ids.shape[1]]
        ids[place], counts[place] = law.ids, law.counts
        start += len(law.ids)
    return LatticeLaws(ids, counts, laws[0].bits)
