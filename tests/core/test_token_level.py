"""Rules that judge one token: what stands, what replaces it, and that the law they tell is the law they emit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.coins import SeededCoins
from cactus_core.errors import InvalidInput
from cactus_core.paths import OFF_SUPPORT, DraftedPaths
from cactus_core.token_level import Cactus, TopK, Typical, decide_token_level

RULES = [Cactus(0.0), Cactus(0.03), Cactus(0.4), Cactus(0.1, is_exact=True), Typical(0.09), Typical(0.6), TopK(1), TopK(5)]


def random_laws(rng, num_laws, size):
    """p `[n, S]`, q `[n, S]` and q's mass off the support `[n]`; of random sharpness, with zeros in both and padding at the end."""
    draft, target = rng.dirichlet(np.full(size, rng.choice([0.1, 1.0, 5.0])), num_laws), rng.dirichlet(np.full(size + 1, 0.5), num_laws)
    target[:, :-1] += rng.choice([0.0, 3.0]) * draft
    draft[:, 1:][rng.random((num_laws, size - 1)) < 0.2] = 0.0
    target[:, :-1][rng.random((num_laws, size)) < 0.2] = 0.0
    draft[:, 0] += 1e-9
    target[:, -1] += 1e-9
    draft[:, -size // 4 :] = target[:, -1 - size // 4 : -1] = 0.0
    draft, target = draft / draft.sum(-1, keepdims=True), target / target.sum(-1, keepdims=True)
    return draft, target[:, :-1], target[:, -1]


def mixed(rule, draft, target, target_off):
    """e by its definition: every token is judged, S times S."""
    num_laws, size = draft.shape
    emitted = np.zeros((num_laws, size + 1))
    for x in range(size):
        judgement = rule.judge(np.full(num_laws, x), draft, target, target_off)
        emitted[:, x] += draft[:, x] * judgement.accept
        emitted += (draft[:, x] * (1.0 - judgement.accept))[:, None] * judgement.correction
    return emitted


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(st.integers(0, 1 << 32), st.integers(4, 24))
def test_the_law_told_is_the_mixture_over_all_drafted_tokens(rule, seed, size):
    laws = random_laws(np.random.default_rng(seed), 5, size)
    emitted = rule.judge(np.zeros(5, dtype=np.int64), *laws).emitted
    assert emitted == pytest.approx(mixed(rule, *laws), abs=1e-13)
    assert emitted.sum(-1) == pytest.approx(1.0, abs=1e-12)


@given(st.integers(0, 1 << 32))
def test_cactus_with_nothing_to_spend_is_speculative_sampling(seed):
    draft, target, target_off = random_laws(np.random.default_rng(seed), 5, 12)
    for rule in (Cactus(0.0), Cactus(0.0, is_exact=True)):
        judgement = rule.judge(np.zeros(5, dtype=np.int64), draft, target, target_off)
        assert judgement.accept == pytest.approx(np.minimum(1.0, target[:, 0] / draft[:, 0]))
        assert judgement.emitted == pytest.approx(np.column_stack([target, target_off]), abs=1e-12)


@pytest.mark.parametrize("delta", [1e-30, 1e-6, 0.01, 0.1, 1.0, 20.0])
def test_cactus_exact_spends_delta_to_the_last_or_gives_all(delta):
    rng = np.random.default_rng(1)
    q = np.concatenate(
        [10.0 ** rng.uniform(-300, 0, 100), 10.0 ** rng.uniform(-6, 0, 300), 1 - 10.0 ** rng.uniform(-12, 0, 300), [0.0, 1.0]]
    )
    # Judged against a certain draft, a token stands with its gamma.
    tokens = np.arange(len(q))
    accept = Cactus(delta, is_exact=True).judge(tokens * 0, np.ones((len(q), 1)), q[:, None], 1.0 - q).accept
    with np.errstate(divide="ignore", invalid="ignore"):
        spent = accept * np.log(accept / q) + np.where(accept < 1, (1 - accept) * (np.log1p(-accept) - np.log1p(-q)), 0.0)
    is_free = -np.log(np.maximum(q, 1e-320)) <= delta
    assert (accept[is_free] == 1.0).all()
    assert spent[~is_free & (q > 0)] == pytest.approx(delta, abs=1e-13)
    assert accept[q == 0.0] == [0.0]


def test_cactus_favours_the_drafted_token_by_the_form_of_its_paper():
    judgement = Cactus(0.02).judge(np.array([0]), np.array([[0.9, 0.1]]), np.array([[0.4, 0.3]]), np.array([0.3]))
    gamma = 0.4 + math.sqrt(2 * 0.02 * 0.4 * 0.6)
    scale = (1 - gamma) / 0.6
    owed = np.array([0.0, 0.3 * scale - 0.1, 0.3 * scale])
    assert judgement.accept == pytest.approx([gamma / 0.9])
    assert judgement.correction[0] == pytest.approx(owed / owed.sum())


def test_typical_takes_what_is_likely_enough_for_how_sharp_the_law_is():
    draft = np.array([[0.5, 0.5, 0.0]] * 3)
    target = np.array([[0.85, 0.05, 0.1], [0.2, 0.25, 0.2], [0.05, 0.2, 0.15]])
    judgement = Typical(0.09).judge(np.array([1, 1, 0]), draft, target, 1.0 - target.sum(-1))
    entropy = -sum(x * math.log(x) for x in (0.05, 0.2, 0.15, 0.6))
    assert 0.05 < 0.3 * math.exp(-entropy) < 0.15  # what decides the last row
    assert judgement.accept.tolist() == [0.0, 1.0, 0.0]
    assert judgement.correction.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]


def test_top_k_takes_the_k_likeliest_and_whatever_ties_with_them():
    draft, target = np.full((1, 4), 0.25), np.array([[0.3, 0.2, 0.2, 0.1]])
    for k, stands in ((1, [1, 0, 0, 0]), (2, [1, 1, 1, 0]), (4, [1, 1, 1, 1]), (9, [1, 1, 1, 1])):
        judged = [TopK(k).judge(np.array([x]), draft, target, np.array([0.2])) for x in range(4)]
        assert [float(judgement.accept[0]) for judgement in judged] == stands
        if k < 4:
            assert judged[3].correction[0] == pytest.approx([*(np.array(stands) / sum(stands)), 0.0])


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        (Cactus, -0.1),
        (Cactus, math.nan),
        (Cactus, math.inf),
        (Typical, -0.01),
        (Typical, 1.1),
        (TopK, 0.0),
        (TopK, 1.5),
        (TopK, math.inf),
        (TopK, math.nan),
    ],
)
def test_a_strength_that_means_nothing_is_refused(rule, bad):
    with pytest.raises(InvalidInput):
        rule(bad)


def test_a_round_ends_at_the_first_token_that_does_not_stand_and_is_paid_for_up_to_there():
    target = np.array([[[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]]])
    paths = DraftedPaths(
        proposed=np.zeros((1, 1, 3), dtype=np.int64),
        law_of=np.arange(3).reshape(1, 1, 3),
        draft_probs=np.full((1, 3, 2), 0.5),
        target_probs=target,
        target_off=np.zeros((1, 3)),
        num_rows=np.array([1]),
        lengths=np.array([3]),
    )
    verdicts = decide_token_level(paths, TopK(1), SeededCoins([1], [0]))
    assert (verdicts.accepted.tolist(), verdicts.final.tolist()) == ([1], [1])
    assert verdicts.divergence[0] == pytest.approx([-math.log(0.9), -math.log(0.9), 0.0, 0.0])


def test_a_block_without_drafts_is_all_the_targets():
    nothing = np.zeros((2, 0, 0), dtype=np.int64)
    paths = DraftedPaths(
        nothing, nothing, np.zeros((2, 0, 0)), np.zeros((2, 0, 0)), np.zeros((2, 0)), np.zeros(2, np.int64), np.zeros(2, np.int64)
    )
    for rule in RULES:
        verdicts = decide_token_level(paths, rule, SeededCoins([1, 2], [0, 0]))
        assert verdicts.accepted.tolist() == [0, 0]
        assert verdicts.final.tolist() == [OFF_SUPPORT, OFF_SUPPORT]
        assert verdicts.divergence.tolist() == [[0.0], [0.0]]
