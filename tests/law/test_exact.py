"""The label `exact`: emitted tokens, continued by the target, are distributed as the target, proved by enumeration."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.enumerating import every_branch
from benchmarks.small_models import SmallPair, law_error, one_round, random_pair
from cactus_core.acceptance import Acceptance
from cactus_core.choosing import Flagging
from cactus_core.deciding import decide_chosen
from cactus_core.rules import RULES, Label
from cactus_core.verifying import BLOCK

# (vocabulary, support, rows, length)
SHAPES = [(3, 3, 1, 3), (4, 2, 1, 4), (3, 2, 2, 2), (4, 4, 2, 1), (2, 2, 2, 3), (4, 3, 3, 1), (2, 2, 3, 2), (3, 3, 2, 2), (4, 3, 1, 0)]
EXACT = [name for name, rule in RULES.items() if rule.label is Label.EXACT]


def special_pairs():
    """Where rules divide by nothing: disjoint supports, point masses, a draft that is the target."""
    certain = np.array([[1.0, 0.0]])
    for target in ([0.0, 0.0, 0.3, 0.7], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]):
        law = np.array([target])
        yield SmallPair([certain, np.repeat(certain, 4, 0)], [law, np.repeat(law, 4, 0), np.repeat(law, 16, 0)], 2)
    yield random_pair(np.random.default_rng(7), 3, 3, 2, equal=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", EXACT)
def test_exact_rules_emit_the_law_of_the_target(name, shape):
    vocab_size, support_size, num_rows, length = shape
    rng = np.random.default_rng(shape)
    for _ in range(3):
        assert law_error(random_pair(rng, vocab_size, support_size, length), num_rows, Acceptance(name).decider()) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_exact_rules_emit_the_law_of_the_target_over_hundreds_of_models(name):
    rng = np.random.default_rng(11)
    for i in range(225):
        vocab_size, support_size, num_rows, length = SHAPES[i % len(SHAPES)]
        pair = random_pair(rng, vocab_size, support_size, length, equal=i % 10 == 9 and support_size == vocab_size)
        assert law_error(pair, num_rows, Acceptance(name).decider()) <= 1e-12


@pytest.mark.parametrize("name", EXACT)
def test_disjoint_supports_point_masses_and_equal_models_are_exact(name):
    for pair in special_pairs():
        assert law_error(pair, 2, Acceptance(name).decider()) <= 1e-12


@pytest.mark.parametrize("name", EXACT)
def test_a_draft_equal_to_the_target_always_stands(name):
    pair = random_pair(np.random.default_rng(7), 3, 3, 2, equal=True)
    tokens, probability = every_branch(lambda coins, n: one_round(pair, 1, Acceptance(name).decider(), coins, n).tokens)
    assert probability[(tokens >= 0).all(-1)].sum() == pytest.approx(1.0, abs=1e-12)


def test_the_proof_would_notice_a_rule_that_tells_an_untrue_law():
    def lies(draft_probs, usable, num_paths):
        honest = (draft_probs > 0).astype(float)
        return Flagging(draft_probs, honest, np.argsort(np.argsort(-usable / np.maximum(draft_probs, 1e-9))))

    def decide(paths, coins, left):
        return decide_chosen(paths, lies, BLOCK, coins, None, left)

    assert law_error(random_pair(np.random.default_rng(1), 3, 3, 1), 2, decide) > 1e-3


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("apart", [1e-3, 1e-6, 1e-9])
def test_models_that_hardly_differ_are_exact(name, apart):
    """Where what is owed and what is missing are both nearly nothing, their ratio must not be noise."""
    rng = np.random.default_rng(1)
    for _ in range(3):
        draft = [rng.dirichlet([1, 1], 1), rng.dirichlet([1, 1], 2)]
        shift = [apart * rng.uniform(-0.5, 0.5, (len(law), 1)) * law.min(-1, keepdims=True) * [1, -1] for law in draft]
        target = [law + moved for law, moved in zip(draft, shift, strict=True)]
        assert law_error(SmallPair(draft, [*target, rng.dirichlet([1, 1], 4)], 2), 2, Acceptance(name).decider()) <= 1e-12
