"""What a response spends: never more than its budget, though entries are rounded on their way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.ledger import Ledger


@given(st.floats(1e-9, 1e9), st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 32)), max_size=40))
def test_entries_rounded_to_float32_stay_within_the_budget(budget, steps):
    ledger = Ledger(budget)
    for share, num_tokens in [*steps, (1.0, 32), (1.0, 1)]:
        left = ledger.left
        assert left >= 0.0
        ledger.charge(np.full(num_tokens, left * share / num_tokens).astype(np.float32).tolist())
        assert ledger.spent <= budget
    assert ledger.spent == pytest.approx(budget, rel=1e-5)


def test_without_a_budget_nothing_is_ever_spent_up():
    ledger = Ledger()
    ledger.charge([1.0, math.inf, 2.0])
    assert (ledger.left, ledger.spent, ledger.entries) == (math.inf, math.inf, [1.0, math.inf, 2.0])


def test_a_budget_of_nothing_leaves_nothing():
    assert Ledger(0.0).left == 0.0
