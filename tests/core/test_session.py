"""What the two sides tell each other, checked when made."""

import math

import pytest

from cactus_core.acceptance import RELAXATIONS, STRENGTH_OF, TOKEN_LEVEL
from cactus_core.errors import InvalidInput
from cactus_core.session import Decision


def test_every_relaxation_says_what_its_strength_is():
    assert list(STRENGTH_OF) == [*RELAXATIONS, *TOKEN_LEVEL]


@pytest.mark.parametrize(
    ("logprobs", "divergence", "says"),
    [((-1.0,), (0.0, 0.0), "1 logprobs"), ((-1.0, -1.0), (0.0,), "1 entries"), ((-1.0, -1.0), (0.0, -0.5), "0 nats or more"),
     ((-1.0, -1.0), (math.nan, 0.0), "0 nats or more")],
)  # fmt: skip
def test_a_decision_has_a_logprob_and_an_entry_for_each_token(logprobs, divergence, says):
    with pytest.raises(InvalidInput, match=says):
        Decision(0, 5, 0, 1, 7, logprobs, divergence, None, 0.0, 0.0)
