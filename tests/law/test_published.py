"""Published rules: the two that are exact, how far off those are that are not, and that each tells the law of what it emits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.enumerating import every_branch
from benchmarks.small_models import SmallPair, law_error, one_round, random_pair
from cactus_core.acceptance import Acceptance
from cactus_core.coins import SeededCoins, Site
from cactus_core.errors import InvalidInput
from cactus_core.paths import OFF_SUPPORT, DraftedPaths
from cactus_core.relaxed_paths import relaxed_paths
from cactus_core.relaxing import Certified, Interpolated
from cactus_core.rules import RULES

TREES = ("recursive", "traversal")
# (vocabulary, support, rows, length)
SHAPES = [(2, 2, 3, 3), (2, 2, 2, 4), (3, 2, 3, 2), (5, 4, 3, 1), (3, 3, 2, 2), (3, 2, 1, 4)]
TOKEN_LEVEL = [("cactus", 0.02), ("cactus", 0.5), ("cactus_exact", 0.1), ("typical", 0.09), ("top_k", 1.0), ("top_k", 2.0)]


def decider(name, relaxation=None):
    return lambda paths, coins, left: RULES[name].decide(paths, coins, relaxation, left)


def num_accepted_law(pair, num_rows, decide):
    tokens, probability = every_branch(lambda coins, n: one_round(pair, num_rows, decide, coins, n).tokens)
    return np.bincount((tokens >= 0).sum(-1) - 1, probability, minlength=pair.length + 1)


def kl(law, target):
    used = law > 0
    return float((law[used] * np.log(law[used] / target[used])).sum()) if (target[used] > 0).all() else math.inf


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", TREES)
def test_trees_of_paths_are_judged_exactly(name, shape):
    vocab_size, support_size, num_rows, length = shape
    rng = np.random.default_rng(shape)
    for _ in range(3):
        assert law_error(random_pair(rng, vocab_size, support_size, length), num_rows, decider(name)) <= 1e-12


@pytest.mark.parametrize("name", TREES)
def test_drafts_that_are_certain_never_right_or_the_target_itself_are_judged_exactly(name):
    law = {
        "certain": [1.0, 0, 0, 0],
        "other": [0, 1.0, 0, 0],
        "elsewhere": [0, 0, 0.3, 0.7],
        "half": [0.5, 0.5, 0, 0],
        "wide": [0.1, 0.2, 0.3, 0.4],
    }
    for draft, target in (
        ("certain", "elsewhere"),
        ("certain", "other"),
        ("half", "elsewhere"),
        ("half", "half"),
        ("half", "wide"),
        ("certain", "wide"),
    ):
        drafts = [np.tile(law[draft][:2], (4**i, 1)) for i in range(2)]
        targets = [np.tile(law[target], (4**i, 1)) for i in range(3)]
        assert law_error(SmallPair(drafts, targets, 2), 3, decider(name)) <= 1e-12
    pair = random_pair(np.random.default_rng(3), 3, 3, 2, equal=True)
    assert num_accepted_law(pair, 2, decider(name)) == pytest.approx([0, 0, 1], abs=1e-12)


@pytest.mark.parametrize(("name", "single"), [("traversal", "first+block"), ("recursive", "first+token")])
def test_of_one_path_as_many_tokens_stand_as_by_its_single_path_kin(name, single):
    rng = np.random.default_rng(8)
    for shape in ((3, 3, 3), (4, 2, 3), (2, 2, 4)):
        pair = random_pair(rng, *shape)
        assert num_accepted_law(pair, 1, decider(name)) == pytest.approx(num_accepted_law(pair, 1, decider(single)), abs=1e-12)


def drafted(rng, num_sessions, num_rows, length, support_size, sharpness=1.0):
    """Sessions of fewer rows and shorter paths among full ones; rows that share a prefix share the law after it."""
    shape = (num_sessions, num_rows * length)
    num = rng.integers(0, [[num_rows + 1], [length + 1]], (2, num_sessions))
    num[:, ::4] = [[num_rows], [length]]
    num *= num.all(0)
    proposed, law_of = np.zeros((2, num_sessions, num_rows, length), dtype=np.int64)
    draft = rng.dirichlet(np.full(support_size, sharpness), shape)
    target = rng.dirichlet(np.full(support_size + 1, sharpness), shape)
    for b in range(num_sessions):
        law_after = {}
        for row in range(num[0, b]):
            for depth in range(num[1, b]):
                law = law_after.setdefault(tuple(proposed[b, row, :depth]), len(law_after))
                law_of[b, row, depth], proposed[b, row, depth] = law, rng.choice(support_size, p=draft[b, law])
    return DraftedPaths(proposed, law_of, draft, target[..., :-1], target[..., -1], num[0], num[1])


def alone(paths, b):
    rows, length = int(paths.num_rows[b]), int(paths.lengths[b])
    laws = (paths.draft_probs[b : b + 1], paths.target_probs[b : b + 1], paths.target_off[b : b + 1])
    return DraftedPaths(
        paths.proposed[b : b + 1, :rows, :length],
        paths.law_of[b : b + 1, :rows, :length],
        *laws,
        paths.num_rows[b : b + 1],
        paths.lengths[b : b + 1],
    )


PUBLISHED = [
    Acceptance("recursive"),
    Acceptance("traversal"),
    Acceptance("spectr_gbv"),
    Acceptance("recursive", "certified", 0.1, 0.2),
    Acceptance("traversal", "certified", 0.1, 0.2),
    Acceptance("first+token", "cactus", 0.1),
    Acceptance("first+token", "typical", 0.09),
    Acceptance("first+token", "top_k", 2.0),
]


@pytest.mark.parametrize("acceptance", PUBLISHED, ids=lambda a: f"{a.rule} {a.relaxation}")
def test_sessions_are_decided_together_as_they_would_be_alone(acceptance):
    rng = np.random.default_rng(5)
    paths, decide = drafted(rng, 60, 4, 4, 3), acceptance.decider()
    seeds, left = np.arange(60), rng.uniform(0.0, 0.4, 60)
    together = decide(paths, SeededCoins(seeds, seeds * 0), left)
    for b in range(60):
        verdict = decide(alone(paths, b), SeededCoins(seeds[b : b + 1], [0]), left[b : b + 1])
        assert (verdict.row[0], verdict.accepted[0], verdict.final[0]) == (together.row[b], together.accepted[b], together.final[b])
        spent = np.zeros(5)
        spent[: verdict.divergence.shape[1]] = verdict.divergence[0]
        assert together.divergence[b] == pytest.approx(spent, abs=1e-12)
    empty = paths.lengths == 0
    assert empty.any()
    assert (together.accepted[empty] == 0).all()
    assert (together.final[empty] == OFF_SUPPORT).all()
    assert (together.divergence[empty] == 0).all()


class Tape:
    """Coins that fall as written: `numbers` `[B, places, lanes]`, by depth. What is drawn is the last that can be."""

    def __init__(self, numbers):
        self.numbers = numbers

    def flip(self, probability, site, depth):
        return self.numbers[:, depth, : probability.shape[1]] < probability

    def draw(self, weights, site, depth):
        return weights.shape[1] - 1 - (weights > 0)[:, ::-1].argmax(-1)

    def of(self, sessions):
        return Tape(self.numbers[sessions])


def traversed(laws, rows, length, numbers):
    """Which row stands and how far, by recursion over the tree as the paper has it. `laws(prefix)` are p, q and q off the support."""
    throws = iter(numbers)  # one a row; its lanes are the lengths

    def visit(prefix, rho, rows, throw):
        if len(prefix) == length:
            throw = next(throws)
            return (rows[0], length) if throw[length] < rho else throw
        p, q, off = laws(prefix)
        r, d = np.append(q, off), np.append(p, 0.0)
        while rows:
            x = rows[0][len(prefix)]
            found = visit((*prefix, x), min(1.0, rho * r[x] / d[x]), [row for row in rows if row[len(prefix)] == x], throw)
            if isinstance(found, tuple):
                return found
            throw = found
            owed = np.maximum(rho * r - d, 0.0)
            r, rho = owed / max(owed.sum(), 1e-300), owed.sum() / (owed.sum() + 1.0 - rho)
            d[x] = 0.0
            d /= max(d.sum(), 1e-300)
            last, rows = rows[0], [row for row in rows if row[len(prefix)] != x]
        return (last, len(prefix)) if throw[len(prefix)] < rho else throw

    return visit((), 1.0, rows, None)


def as_published(laws, rows, length, numbers):
    """SpecTr-GBV's loop over rows and tokens: which row is selected and how much of it stands."""
    num_rows, n, selected, seen = len(rows), 0, rows[0], set()

    def none_of(z):
        return (1.0 - z) ** num_rows

    for j, row in enumerate(rows):
        draft, target = zip(*[laws(row[:i])[:2] for i in range(length)], strict=True)
        off = [laws(row[:i])[2] for i in range(length)]
        m_s = np.prod([draft[i][row[i]] for i in range(n)])
        m_b = np.prod([target[i][row[i]] for i in range(n)])
        for i in range(n, length - 1):
            m_s, m_b = m_s * draft[i][row[i]], m_b * target[i][row[i]]
            wanted = np.append(m_b * target[i + 1], m_b * off[i + 1])
            ratio = np.append(np.minimum(1.0, m_s * draft[i + 1] / wanted[:-1]), 0.0)
            num = (wanted * none_of(ratio)).sum() - m_b * none_of(min(1.0, m_s / m_b))
            den = 1.0 - none_of(m_s) - (wanted * (1.0 - none_of(ratio))).sum()
            if row[: i + 1] in seen:
                continue
            if den > 1e-14 and numbers[j, i] < num / den:
                n, selected = i + 1, row
            else:
                seen.add(row[: i + 1])
        m_s, m_b = m_s * draft[-1][row[-1]], m_b * target[-1][row[-1]]
        if numbers[j, length - 1] < m_b * (1.0 - none_of(min(1.0, m_s / m_b))) / (1.0 - none_of(m_s)):
            return row, length
    return selected, n


@pytest.mark.parametrize(("name", "plain"), [("traversal", traversed), ("spectr_gbv", as_published)])
def test_batches_are_judged_as_the_papers_plain_loop_judges_each(name, plain):
    rng = np.random.default_rng(12)
    paths = drafted(rng, 600, 4, 4, 3, sharpness=3.0)
    numbers = rng.random((600, 5, 5))
    numbers[rng.random(numbers.shape) < 0.3] = 0.999  # so that more than the first row is judged
    verdicts = decider(name)(paths, Tape(numbers), np.full(600, np.inf))
    seen = set()
    for b in np.flatnonzero(paths.lengths):
        length = int(paths.lengths[b])
        rows = [tuple(row[:length].tolist()) for row in paths.proposed[b, : paths.num_rows[b]]]
        law_of = {rows[k][:i]: paths.law_of[b, k, i] for k in range(len(rows)) for i in range(length)}

        def laws(prefix, b=b, law_of=law_of):
            return paths.draft_probs[b, law_of[prefix]], paths.target_probs[b, law_of[prefix]], paths.target_off[b, law_of[prefix]]

        row, accepted = plain(laws, rows, length, numbers[b])
        assert (verdicts.accepted[b], rows[verdicts.row[b]][:accepted]) == (accepted, row[:accepted])
        seen.add((int(verdicts.row[b]), accepted))
    assert len(seen) > 15


def test_spectr_gbv_as_published_is_exact_for_one_token_alone():
    rng = np.random.default_rng(2)
    for _ in range(10):
        assert law_error(random_pair(rng, 4, 3, 1), 1, decider("spectr_gbv")) <= 1e-12
    errors = [law_error(random_pair(rng, 3, 3, 1), 2, decider("spectr_gbv")) for _ in range(40)]
    assert np.mean(errors) > 0.03
    assert max(errors) > 0.1
    errors = [law_error(random_pair(rng, 3, 3, 2), 1, decider("spectr_gbv")) for _ in range(40)]
    assert max(errors) > 0.01  # what greedy block verification would owe after the round


def test_spectr_gbv_takes_no_relaxation():
    with pytest.raises(InvalidInput, match="runs as published"):
        one_round(random_pair(np.random.default_rng(0), 2, 2, 1), 1, decider("spectr_gbv", Certified(0.1)), SeededCoins([0], [0]), 1)


@pytest.mark.parametrize("relaxation", [Certified(0.1), Certified(price=1.0), Interpolated(0.6)])
def test_no_path_of_a_tree_can_spend_more_than_is_left(relaxation):
    rng = np.random.default_rng(9)
    paths, left = drafted(rng, 50, 4, 5, 4, sharpness=0.5), rng.uniform(0.0, 0.3, 50)
    relaxed, divergence = relaxed_paths(paths, relaxation, left)
    session, row = np.nonzero(paths.is_row & (paths.lengths > 0)[:, None])
    is_real = np.arange(5) < paths.lengths[session, None]
    spent = np.where(is_real, divergence[session[:, None], paths.law_of[session, row]], 0.0).sum(-1)
    assert (spent <= left[session] + 1e-12).all()
    assert spent.max() > 0.05
    used = divergence > 0
    told = [kl(np.append(*h), np.append(*q)) for h, q in zip(both(relaxed, used), both(paths, used), strict=True)]
    assert told == pytest.approx(divergence[used], abs=1e-12)


def both(paths, which):
    return zip(paths.target_probs[which], paths.target_off[which], strict=True)


@pytest.mark.parametrize("shape", [(4, 4, 1), (5, 3, 1), (3, 3, 2), (4, 2, 2)])
@pytest.mark.parametrize(("name", "strength"), TOKEN_LEVEL)
def test_the_ledger_of_a_token_level_rule_is_the_divergence_of_what_is_emitted(name, strength, shape):
    rng = np.random.default_rng(shape)
    decide = Acceptance("first+token", name, strength).decider()
    for _ in range(3):
        pair = random_pair(rng, *shape)
        emitted, probability = every_branch(lambda coins, n, pair=pair: np.concatenate(one_round(pair, 1, decide, coins, n), -1))
        tokens, divergence = emitted[:, : pair.length + 1].astype(int), emitted[:, pair.length + 1 :]
        first = np.bincount(tokens[:, 0], probability, minlength=pair.vocab_size)
        assert divergence[:, 0] == pytest.approx(kl(first, pair.target[0][0]), abs=1e-11)
        for x in range(pair.vocab_size if pair.length > 1 else 0):
            goes_on = (tokens[:, 0] == x) & (tokens[:, 1] >= 0) & (probability > 1e-12)
            if goes_on.any():
                second = np.bincount(tokens[goes_on, 1], probability[goes_on], minlength=pair.vocab_size)
                realised = kl(second / second.sum(), pair.target[1][x])
                assert divergence[goes_on, 1] == pytest.approx(realised, abs=1e-9)
        assert (divergence[tokens < 0] == 0).all()
        assert (divergence[:, -1] == 0).all()


@pytest.mark.parametrize("name", ["cactus", "cactus_exact"])
def test_what_cactus_emits_strays_further_than_its_delta(name):
    rng = np.random.default_rng(1)
    pairs = [random_pair(rng, 4, 4, 1) for _ in range(60)]
    for delta in (0.01, 0.1):
        decide = Acceptance("first+token", name, delta).decider()
        realised = [float(one_round(pair, 1, decide, SeededCoins([0], [0]), 1).divergence[0, 0]) for pair in pairs]
        assert max(realised) > 1.5 * delta
    free = Acceptance("first+token", name, 0.0).decider()
    assert max(law_error(pair, 1, free) for pair in pairs) <= 1e-12


@pytest.mark.parametrize("acceptance", PUBLISHED, ids=lambda a: f"{a.rule} {a.relaxation}")
def test_blocks_without_drafts_are_all_the_targets(acceptance):
    paths = drafted(np.random.default_rng(0), 3, 0, 0, 0)
    verdicts = acceptance.decider()(paths, SeededCoins([1, 2, 3], [0, 0, 0]), np.full(3, np.inf))
    assert verdicts.accepted.tolist() == [0, 0, 0]
    assert verdicts.final.tolist() == [OFF_SUPPORT] * 3
    assert verdicts.divergence.tolist() == [[0.0]] * 3


def test_depths_of_one_decision_never_meet():
    thrown = []

    class Watched(Tape):
        def flip(self, probability, site, depth):
            thrown.append((self.numbers.tobytes(), site, depth))
            return super().flip(probability, site, depth)

        def draw(self, weights, site, depth):
            thrown.append((self.numbers.tobytes(), site, depth))
            return super().draw(weights, site, depth)

        def of(self, sessions):
            return Watched(self.numbers[sessions])

    rng = np.random.default_rng(4)
    for acceptance in PUBLISHED:
        for _ in range(20):
            thrown.clear()
            acceptance.decider()(drafted(rng, 1, 3, 3, 3), Watched(rng.random((1, 4, 4))), np.full(1, np.inf))
            assert len(set(thrown)) == len(thrown)
            assert all(site in (Site.CHOOSE, Site.ACCEPT, Site.CORRECT) for _, site, _ in thrown)
