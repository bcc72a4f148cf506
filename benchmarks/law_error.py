"""Claim: what a rule labelled `exact` emits, continued by the target, is distributed as the target, to 1e-12 in total variation.

Against: the same enumeration of rules whose label is `unbounded` (SpecTr-GBV and the token-level rules as published), which must
show their distance, and of `certified`, whose distance is what its delta bought. All over the same random small models, with
zeros, equal models, point masses and disjoint supports among them; every branch of a round counts with its exact probability.
Refuted by: a `law_tv_error` above 1e-12 in a row labelled `exact`. No error in any row would refute the measure itself.
"""

from __future__ import annotations

import numpy as np

from benchmarks.small_models import SmallPair, disjoint_pair, law_error, pointed_pair, random_pair
from cactus_core.acceptance import Acceptance
from cactus_core.rules import RULES
from cluster.figures import Case, Figures

# (vocabulary, support, rows, length)
_SHAPES = ((3, 3, 1, 3), (4, 2, 1, 4), (3, 2, 2, 2), (4, 4, 2, 1), (2, 2, 2, 3), (4, 3, 3, 1), (2, 2, 3, 2), (3, 3, 2, 2), (2, 2, 3, 3))
_ALONE = "first+token"
_ACCEPTANCES = (
    *(Acceptance(rule) for rule in RULES),
    Acceptance("nearest+block", "certified", 0.05),
    Acceptance(_ALONE, "cactus", 0.1),
    Acceptance(_ALONE, "cactus_exact", 0.1),
    Acceptance(_ALONE, "typical", 0.09),
    Acceptance(_ALONE, "top_k", 5),
)


def measure(figures: Figures, *, quick: bool) -> None:
    """`law_tv_error` of each rule: the greatest over all models."""
    models = list(_models(_num_models(quick=quick)))
    for acceptance in _ACCEPTANCES:
        worst = 0.0
        for pair, num_rows in models:
            worst = max(worst, law_error(pair, num_rows, acceptance.decider()))
        case: Case = {
            "rule": acceptance.rule,
            "label": str(acceptance.label),
            "relaxation": acceptance.relaxation,
            "strength": acceptance.strength,
            "models": len(models),
        }
        figures.add(case, "law_tv_error", worst, "total variation")


def _num_models(*, quick: bool) -> int:
    return 36 if quick else 200


def _models(num_models: int) -> list[tuple[SmallPair, int]]:
    """Pairs of all shapes in turn, with the number of rows; three of ten are special."""
    rng = np.random.default_rng(11)
    models = []
    for i in range(num_models):
        vocab_size, support_size, num_rows, length = _SHAPES[i % len(_SHAPES)]
        pair = random_pair(rng, vocab_size, support_size, length, equal=i % 10 == 9 and support_size == vocab_size)
        if i % 10 == 3:
            pair = disjoint_pair(rng, pair)
        elif i % 10 == 6:
            pair = pointed_pair(rng, pair)
        models.append((pair, num_rows))
    return models
