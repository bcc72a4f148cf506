"""The label `exact`: emitted tokens, continued by the target, are distributed as the target, proved by enumeration."""

from __future__ import annotations

import numpy as np
import pytest

from cactus_core.rules import RULES, Label, Rule
from tests.law.enumerating import every_branch
from tests.law.small_models import SmallPair, continued_by_target, one_round, random_pair, target_law

# (vocabulary, support, rows, length)
SHAPES = [(3, 3, 1, 3), (4, 2, 1, 4), (3, 2, 2, 2), (4, 4, 2, 1), (2, 2, 2, 3), (4, 3, 3, 1), (2, 2, 3, 2), (3, 3, 2, 2), (4, 3, 1, 0)]


def law_error(pair: SmallPair, num_rows: int, rule: Rule) -> float:
    emitted, probability = every_branch(lambda coins, n: one_round(pair, num_rows, rule, coins, n))
    assert probability.sum() == pytest.approx(1.0, abs=1e-12)
    return 0.5 * float(np.abs(continued_by_target(pair, emitted, probability) - target_law(pair)).sum())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", [r for r in RULES.values() if r.label is Label.EXACT], ids=lambda r: r.name)
def test_exact_rules_emit_the_law_of_the_target(rule: Rule, shape: tuple[int, int, int, int]) -> None:
    vocab_size, support_size, num_rows, length = shape
    rng = np.random.default_rng(shape)
    for _ in range(4):
        pair = random_pair(rng, vocab_size, support_size, length)
        assert law_error(pair, num_rows, rule) <= 1e-12


@pytest.mark.parametrize("rule", [r for r in RULES.values() if r.label is Label.EXACT], ids=lambda r: r.name)
def test_a_draft_equal_to_the_target_is_exact_and_always_stands(rule: Rule) -> None:
    pair = random_pair(np.random.default_rng(7), 3, 3, 2, equal=True)
    emitted, probability = every_branch(lambda coins, n: one_round(pair, 1, rule, coins, n))
    assert law_error(pair, 1, rule) <= 1e-12
    assert probability[(emitted >= 0).all(-1)].sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("rule", [r for r in RULES.values() if r.label is Label.EXACT], ids=lambda r: r.name)
def test_disjoint_supports_and_point_masses_are_exact(rule: Rule) -> None:
    certain = np.array([[1.0, 0.0]])
    elsewhere = np.array([[0.0, 0.0, 0.3, 0.7]])
    point = np.array([[0.0, 1.0, 0.0, 0.0]])
    for target in (elsewhere, point):
        pair = SmallPair([certain, np.repeat(certain, 4, 0)], [target, np.repeat(target, 4, 0), np.repeat(target, 16, 0)], 2)
        assert law_error(pair, 2, rule) <= 1e-12


def test_the_proof_would_notice_a_rule_that_tells_an_untrue_law() -> None:
    honest = RULES["quota"]

    def lies(draft, target, weight, proposed, active, coins, depth):
        taken, _ = honest.choose(draft, target, weight, proposed, active, coins, depth)
        return taken, np.where(draft > 0, np.maximum(draft, 1e-9), 0.0)

    pair = random_pair(np.random.default_rng(1), 3, 3, 1)
    assert law_error(pair, 2, Rule("lies", Label.EXACT, lies)) > 1e-3
