"""What a request may ask for, and what it is promised."""

import math
import pickle

import pytest

from cactus_core.acceptance import RELAXATIONS, TOKEN_LEVEL, Acceptance, decider
from cactus_core.errors import CactusError, InvalidInput, Unsupported
from cactus_core.rules import LABELS, RULES, Label


@pytest.mark.parametrize(
    ("asked", "label"),
    [
        ((), Label.EXACT),
        (("first+token",), Label.EXACT),
        (("spectr_gbv",), Label.UNBOUNDED),
        (("coupled",), Label.EXACT),
        (("quota+block", "certified", 0.1), Label.BOUNDED),
        (("traversal", "certified_tv", 0.1), Label.BOUNDED),
        (("nearest+block", "priced", 2.0), Label.UNBOUNDED),
        (("nearest+block", "priced", 2.0, 3.0), Label.BOUNDED),
        (("nearest+block", "interpolate", 0.3), Label.UNBOUNDED),
        (("nearest+block", "interpolate", 0.3, 1.0), Label.BOUNDED),
        (("first+token", "cactus", 0.1), Label.UNBOUNDED),
    ],
)
def test_a_label_says_what_is_promised(asked, label):
    acceptance = Acceptance(*asked)
    assert acceptance.label is label
    assert pickle.loads(pickle.dumps(acceptance)) == acceptance  # noqa: S301  # our own


@pytest.mark.parametrize(
    ("asked", "error", "word"),
    [
        (("best",), Unsupported, "nearest"),
        (("nearest+block", "softer"), Unsupported, "certified"),
        (("nearest+block", "", 0.1), InvalidInput, "needs a relaxation"),
        (("nearest+block", "", 0.0, 2.0), InvalidInput, "needs a relaxation"),
        (("nearest+block", "certified", -0.1), InvalidInput, "0 or more"),
        (("nearest+block", "certified", math.nan), InvalidInput, "a number"),
        (("nearest+block", "certified", 0.1, math.nan), InvalidInput, "budget"),
        (("nearest+block", "certified", 0.1, -1.0), InvalidInput, "budget"),
        (("nearest+block", "priced", 0.0), InvalidInput, "price"),
        (("nearest+block", "interpolate", 1.5), InvalidInput, "alpha"),
        (("spectr_gbv", "certified", 0.1), InvalidInput, "as published"),
        (("quota+block", "cactus", 0.1), InvalidInput, "as published"),
        (("coupled", "certified", 0.1), InvalidInput, "nothing relaxes"),
        (("coupled", "cactus", 0.1), InvalidInput, "nothing relaxes"),
        (("coupled", "", 0.0, 2.0), InvalidInput, "needs a relaxation"),
        (("first+token", "cactus", 0.1, 2.0), InvalidInput, "as published"),
        (("first+token", "top_k", 2.5), InvalidInput, "k"),
    ],
)
def test_what_does_not_hold_together_is_refused_in_one_line(asked, error, word):
    with pytest.raises(error, match=word) as caught:
        Acceptance(*asked)
    assert isinstance(caught.value, CactusError)
    assert "\n" not in str(caught.value)


def test_every_name_can_be_asked_for():
    for rule in LABELS:
        Acceptance(rule)
    for relaxation in (*RELAXATIONS, *TOKEN_LEVEL):
        Acceptance(relaxation=relaxation, strength=1.0)


def test_blocks_are_decided_on_and_coupled_trees_are_walked():
    assert set(RULES) == {rule for rule in LABELS if not Acceptance(rule).is_coupled}
    coupled = Acceptance("coupled")
    for ask in (coupled.decider, lambda: decider([coupled, coupled])):
        with pytest.raises(InvalidInput, match="walked"):
            ask()
