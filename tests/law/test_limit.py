"""The linear program bounds every exact rule, and is met where a bound is known."""

import numpy as np
import pytest

from benchmarks.limit import expected_tokens, limit
from benchmarks.small_models import SmallPair, disjoint_pair, pointed_pair, random_pair
from cactus_core.acceptance import Acceptance
from cactus_core.rules import RULES, Label

# (vocabulary, support, rows, length)
SHAPES = [(3, 3, 2, 1), (3, 2, 3, 1), (3, 3, 2, 2), (4, 2, 2, 2), (2, 2, 2, 3), (2, 2, 3, 2), (3, 3, 1, 2)]
EXACT = [name for name, rule in RULES.items() if rule.label is Label.EXACT]


def pairs(shape):
    vocab_size, support_size, _, length = shape
    rng = np.random.default_rng(shape)
    for _ in range(3):
        yield random_pair(rng, vocab_size, support_size, length)
    yield disjoint_pair(rng, random_pair(rng, vocab_size, support_size, length))
    yield pointed_pair(rng, random_pair(rng, vocab_size, support_size, length))


@pytest.mark.parametrize("shape", SHAPES)
def test_no_exact_rule_exceeds_the_limit(shape):
    for pair in pairs(shape):
        most = limit(pair, shape[2])
        for name in EXACT:
            assert expected_tokens(pair, shape[2], Acceptance(name).decider()) <= most + 1e-9, name


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4])
def test_nearest_attains_the_limit_of_one_token(num_rows):
    rng = np.random.default_rng(num_rows)
    for _ in range(8):
        pair = random_pair(rng, 4, 3, 1)
        attained = expected_tokens(pair, num_rows, Acceptance("nearest+block").decider())
        assert attained == pytest.approx(limit(pair, num_rows), abs=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_block_verification_attains_the_limit_of_one_path(length):
    rng = np.random.default_rng(length)
    for _ in range(8):
        pair = random_pair(rng, 3, 3, length)
        attained = expected_tokens(pair, 1, Acceptance("first+block").decider())
        assert attained == pytest.approx(limit(pair, 1), abs=1e-6)


def test_limits_that_are_known():
    rng = np.random.default_rng(0)
    alike = random_pair(rng, 3, 3, 2, equal=True)
    assert limit(alike, 2) == pytest.approx(3.0, abs=1e-9)
    assert limit(disjoint_pair(rng, alike), 2) == pytest.approx(1.0, abs=1e-9)
    draft, target = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
    sure = SmallPair([draft], [target, np.repeat(target, 2, 0)], 2)
    assert limit(sure, 3) == pytest.approx(1.0 + 1.0 - 0.5**3, abs=1e-9)
