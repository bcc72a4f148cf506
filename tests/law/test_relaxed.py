"""The label `bounded`: what the ledger says bounds the divergence of what is emitted, and neither delta nor a budget is exceeded."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from benchmarks.enumerating import every_branch
from benchmarks.small_models import continued_by_target, one_round, prefix_index, random_pair, target_law
from cactus_core.acceptance import Acceptance
from cactus_core.coins import SeededCoins
from cactus_core.relaxing import Certified, Interpolated, kl
from cactus_core.rules import RULES, Label

SHAPES = [(3, 3, 1, 2), (4, 2, 1, 3), (3, 2, 2, 2), (4, 4, 2, 1), (2, 2, 2, 3), (2, 2, 3, 2)]
RELAXED = [
    ("certified", 0.05, math.inf),
    ("certified", 0.4, 0.5),
    ("certified_tv", 0.1, 0.2),
    ("priced", 2.0, 0.3),
    ("interpolate", 0.5, math.inf),
]
EXACT = [name for name, rule in RULES.items() if rule.label is Label.EXACT]


def text_divergence(law, target):
    used = law > 0
    return float((law[used] * np.log(law[used] / target[used])).sum()) if (target[used] > 0).all() else math.inf


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", EXACT)
def test_divergence_of_the_text_is_within_the_ledger_and_the_ledger_within_delta(name, shape):
    vocab_size, support_size, num_rows, length = shape
    rng = np.random.default_rng(shape)
    for relaxation, strength, budget in RELAXED * 2:
        acceptance = Acceptance(name, relaxation, strength, budget)
        pair = random_pair(rng, vocab_size, support_size, length)
        ledgers, ends = [], []

        def program(coins, n, acceptance=acceptance, pair=pair, ledgers=ledgers, ends=ends):
            emitted = one_round(pair, num_rows, acceptance.decider(), coins, n, budget=acceptance.budget)
            ledgers.append((emitted.divergence, coins))
            ends.append((emitted.tokens >= 0).sum(-1))
            return emitted.tokens

        tokens, probability = every_branch(program)
        spent = np.concatenate([divergence.sum(-1) for divergence, _ in ledgers])
        each = np.concatenate([divergence for divergence, _ in ledgers])
        assert (np.concatenate(ends) == (tokens >= 0).sum(-1)).all()
        law = continued_by_target(pair, tokens, probability)
        assert text_divergence(law, target_law(pair)) <= (probability * spent).sum() + 1e-9
        assert spent.max() <= budget
        if relaxation == "certified":
            assert each.max() <= strength + 1e-9
            assert acceptance.label is Label.BOUNDED


def small_law(rng, size, sharpness=1.0):
    return rng.dirichlet(np.full(size, sharpness))


@pytest.mark.parametrize("in_tv", [False, True])
def test_certified_is_served_the_most_within_delta(in_tv):
    """Against every law on a fine grid over three tokens, one of them off the support."""
    rng = np.random.default_rng(3)
    steps = np.arange(0, 161)
    grid = np.array([(a, b, 160 - a - b) for a in steps for b in steps if a + b <= 160]) / 160
    for _ in range(40):
        target, law = small_law(rng, 3), np.append(small_law(rng, 2), 0.0)
        weight, delta = rng.uniform(0.4, 1.0), rng.uniform(0.005, 0.2)
        relaxed = Certified(delta=delta, in_tv=in_tv)(
            law[None, :2], np.array([weight]), target[None, :2], target[None, 2], np.array([np.inf])
        )
        h = np.append(relaxed.target_probs[0], relaxed.target_off[0])
        assert h.sum() == pytest.approx(1.0, abs=1e-12)
        distance = 0.5 * np.abs(h - target).sum() if in_tv else text_divergence(h, target)
        assert distance <= delta + 1e-9
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(grid > 0, grid * np.log(grid / target), 0.0).sum(-1)
        fits = (0.5 * np.abs(grid - target).sum(-1) if in_tv else logs) <= delta
        best = np.minimum(law, weight * grid[fits]).sum(-1).max(initial=0.0)
        assert np.minimum(law, weight * h).sum() >= best - 1e-5


def test_a_price_buys_where_a_nat_brings_more_and_delta_is_the_same_law_at_its_divergence():
    rng = np.random.default_rng(4)
    target, law = rng.dirichlet(np.ones(6), 30), rng.dirichlet(np.ones(6), 30)
    none, ones, free = np.zeros(30), np.ones(30), np.full(30, np.inf)
    spent = []
    for price in (0.5, 1.0, 4.0, 50.0):
        priced = Certified(price=price)(law, ones, target, none, free)
        spent.append(priced.divergence.mean())
        at = [
            Certified(delta=d)(law[i : i + 1], ones[:1], target[i : i + 1], none[:1], free[:1])
            for i, d in enumerate(priced.divergence)
            if d > 1e-6
        ]
        rows = np.flatnonzero(priced.divergence > 1e-6)
        for relaxed, row in zip(at, rows, strict=True):
            assert relaxed.target_probs[0] == pytest.approx(priced.target_probs[row], abs=2e-3)
    assert spent == sorted(spent, reverse=True)
    assert spent[0] > 0.1
    assert spent[-1] < 0.01


def test_where_drafts_and_target_have_nothing_in_common_the_law_is_the_targets_own():
    target, law = np.array([[0.0, 0.0, 0.3, 0.7], [0.0, 0.2, 0.3, 0.0]]), np.array([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    off = 1.0 - target.sum(-1)
    for relaxation in (Certified(delta=0.3), Certified(price=1.0), Certified(delta=0.3, in_tv=True)):
        relaxed = relaxation(law, np.ones(2), target, off, np.full(2, np.inf))
        assert relaxed.target_probs == pytest.approx(target, abs=1e-6)
        assert relaxed.target_off == pytest.approx(off, abs=1e-6)


def test_delta_holds_where_the_draft_is_on_tokens_that_the_target_never_takes():
    law, target = np.array([[0.45, 0.05, 0.5], [1.0, 0.0, 0.0]]), np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    relaxed = Certified(delta=0.05)(law, np.ones(2), target, np.zeros(2), np.full(2, np.inf))
    assert (relaxed.divergence <= 0.05).all()
    assert relaxed.target_probs.sum(-1) == pytest.approx(1.0)
    none = Certified(delta=0.05)(np.zeros((1, 3)), np.ones(1), target[:1], np.zeros(1), np.full(1, np.inf))
    assert none.target_probs[0] == pytest.approx(target[0], abs=1e-6)


def test_sessions_with_strengths_of_their_own_are_relaxed_as_they_would_be_alone():
    rng = np.random.default_rng(9)
    law, target = rng.dirichlet(np.ones(6), 5), rng.dirichlet(np.ones(6), 5)
    weight, off, left = rng.uniform(0.5, 1.0, 5), np.zeros(5), np.full(5, np.inf)
    strengths = np.array([0.0, 0.01, 0.1, 0.5, 1.0])
    for make in (lambda x: Certified(delta=x), lambda x: Certified(delta=x, in_tv=True), lambda x: Certified(price=x + 0.5), Interpolated):
        together = make(strengths)(law, weight, target, off, left)
        for i in range(5):
            one = np.s_[i : i + 1]
            alone = make(float(strengths[i]))(law[one], weight[one], target[one], off[one], left[one])
            assert together.target_probs[i] == pytest.approx(alone.target_probs[0], abs=1e-12)
        some = make(strengths).of(np.array([3, 1]))(law[[3, 1]], weight[[3, 1]], target[[3, 1]], off[:2], left[:2])
        assert some.divergence == pytest.approx(together.divergence[[3, 1]], abs=1e-12)


def test_with_nothing_to_spend_the_law_is_the_targets_own():
    rng = np.random.default_rng(6)
    target, law = rng.dirichlet(np.ones(5), 20), rng.dirichlet(np.ones(5), 20)
    for relaxation in (Certified(delta=0.0), Certified(delta=0.0, in_tv=True), Interpolated(0.0)):
        relaxed = relaxation(law, np.ones(20), target, np.zeros(20), np.full(20, np.inf))
        assert relaxed.target_probs == pytest.approx(target, abs=1e-12)
    for relaxation in (Certified(delta=0.3), Certified(price=1.0), Certified(delta=0.3, in_tv=True), Interpolated(0.9)):
        relaxed = relaxation(law, np.ones(20), target, np.zeros(20), np.zeros(20))
        assert relaxed.target_probs == pytest.approx(target, abs=1e-12)
        assert (relaxed.divergence == 0).all()


def within(decide, left, paths, coins, _):
    return decide(paths, coins, left)


@pytest.mark.parametrize(("relaxation", "strength"), [("certified", 0.2), ("priced", 1.0), ("certified_tv", 0.3)])
def test_the_budget_of_a_response_holds_over_a_thousand_responses(relaxation, strength):
    """Twelve rounds of a thousand responses at once, each spending from what the rounds before it left."""
    budget, num_sessions = 0.7, 1000
    acceptance = Acceptance("nearest+block", relaxation, strength, budget)
    pair = random_pair(np.random.default_rng(2), 4, 4, 3)
    decide, left, unbounded = acceptance.decider(), np.full(num_sessions, budget), 0.0
    for round_number in range(12):
        coins = SeededCoins(np.arange(num_sessions), np.full(num_sessions, round_number * 4))
        emitted = one_round(pair, 3, partial(within, decide, left), coins, num_sessions)
        assert (emitted.divergence >= 0).all()
        left = left - emitted.divergence.sum(-1)
        free = one_round(pair, 3, decide, coins, num_sessions)
        unbounded += free.divergence.sum(-1).mean()
    assert left.min() >= 0.0
    assert (left < 0.01).mean() > 0.9  # and it is spent
    assert unbounded > budget


def test_kl_of_a_law_that_leaves_tokens_out():
    assert kl(np.array([[1.0, 0.0]]), np.zeros(1), np.array([[0.5, 0.25]]), np.array([0.25])) == pytest.approx([math.log(2)])


def test_prefix_index_counts_in_order():
    assert prefix_index(np.array([[0, 0], [0, 1], [1, 0]]), 2).tolist() == [0, 1, 2]
