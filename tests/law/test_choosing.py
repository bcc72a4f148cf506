"""A choosing rule's told law is the law of what it takes, proved by enumeration; and how good its law is."""

import numpy as np
import pytest
from scipy.optimize import linprog

from benchmarks.enumerating import every_branch
from cactus_core import choosing
from cactus_core.coins import Site
from cactus_core.nearest import nearest

CHOOSING = [choosing.first, choosing.ranked, choosing.kseq, choosing.kseq_or_none, choosing.quota, nearest]


def random_law(rng, size, zeros, sharpness=0.7):
    law = rng.dirichlet(np.full(size, sharpness))
    law[rng.random(size) < zeros] = 0.0
    return law / law.sum() if law.sum() else np.eye(size)[0]


def served(choose, draft, usable, num_paths):
    """sum min(s, usable)."""
    return np.minimum(choose(draft[None], usable[None], np.array([num_paths])).law[0], usable).sum()


@pytest.mark.parametrize("num_paths", [1, 2, 3, 5])
@pytest.mark.parametrize("choose", CHOOSING, ids=lambda choose: choose.__name__)
def test_the_taken_token_has_the_law_that_is_told(choose, num_paths):
    rng = np.random.default_rng(num_paths)
    for _ in range(12):
        size = int(rng.integers(1, 4))
        draft, usable = random_law(rng, size, 0.2), random_law(rng, size, 0.2) * rng.random()
        choice = choose(draft[None], usable[None], np.array([num_paths]))

        def program(coins, n, draft=draft, choice=choice, size=size):
            proposed = np.stack([coins.draw(np.tile(draft, (n, 1)), Site.DRAFT, row) for row in range(num_paths)], -1)
            one = type(choice)(
                **{name: tiled(getattr(choice, name), n) for name in choice.__dataclass_fields__},
            )
            odds = one.odds(proposed, np.ones((n, num_paths), dtype=bool))
            if not choice.abstains:
                assert odds.sum(-1) == pytest.approx(1.0, abs=1e-12)
            path = coins.draw(np.concatenate([odds, np.maximum(1 - odds.sum(-1, keepdims=True), 0) * choice.abstains], -1), Site.CHOOSE, 0)
            return np.where(path < num_paths, proposed[np.arange(n), np.minimum(path, num_paths - 1)], size)

        taken, probability = every_branch(program)
        assert np.bincount(taken, probability, minlength=size + 1)[:size] == pytest.approx(choice.law[0], abs=1e-12)


def tiled(value, n):
    return np.repeat(value, n, 0) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("choose", CHOOSING, ids=lambda choose: choose.__name__)
def test_sessions_with_other_numbers_of_paths_change_no_law_and_no_odds(choose):
    rng = np.random.default_rng(8)
    num_paths = rng.permutation(np.repeat(np.arange(1, 7), 3))
    draft, usable = (np.stack([random_law(rng, 12, 0.2) for _ in num_paths]) for _ in range(2))
    proposed = np.stack([rng.choice(12, 6, p=law) for law in draft])
    active = np.arange(6) < num_paths[:, None]
    together = choose(draft, usable, num_paths)
    odds = together.odds(proposed, active)
    assert (odds[~active] == 0).all()
    for b, m in enumerate(num_paths):
        alone = choose(draft[b : b + 1], usable[b : b + 1], num_paths[b : b + 1])
        assert together.law[b] == pytest.approx(alone.law[0], abs=1e-12)
        assert odds[b, :m] == pytest.approx(alone.odds(proposed[b : b + 1, :m], active[b : b + 1, :m])[0], abs=1e-9)


@pytest.mark.parametrize("choose", [choosing.quota, nearest], ids=lambda choose: choose.__name__)
def test_more_paths_never_serve_the_target_less(choose):
    rng = np.random.default_rng(0)
    for _ in range(50):
        draft, target = random_law(rng, 6, 0.1), random_law(rng, 6, 0.1)
        assert (np.diff([served(choose, draft, target, m) for m in (1, 2, 4, 8, 16)]) >= -1e-6).all()


@pytest.mark.parametrize("num_paths", [2, 3, 4, 8])
def test_nearest_serves_the_most_that_any_use_of_the_paths_can(num_paths):
    """Against the optimum of the transport problem: min over sets A of P(some path is in A) + usable(not A), at thresholds of q/p."""
    rng = np.random.default_rng(num_paths)
    for _ in range(200):
        size = int(rng.integers(1, 40))
        draft, usable = random_law(rng, size, 0.1, 0.5), random_law(rng, size, 0.1, 0.5) * rng.uniform(0.3, 1.0)
        order = np.argsort(-usable / np.maximum(draft, 1e-300))
        drafted = np.concatenate([[0.0], np.cumsum(draft[order])])
        used = np.concatenate([[0.0], np.cumsum(usable[order])])
        best = (1 - np.maximum(1 - drafted, 0) ** num_paths + used[-1] - used).min()
        assert served(nearest, draft, usable, num_paths) == pytest.approx(best, abs=1e-6)
        for choose in CHOOSING:
            assert served(choose, draft, usable, num_paths) <= best + 1e-9


def test_nearest_is_the_least_divergent_law_that_the_paths_can_have():
    """Against laws of the whole polytope: no mixture with any other achievable law is nearer, in three divergences at once."""
    rng = np.random.default_rng(5)
    for _ in range(60):
        size, m = int(rng.integers(2, 5)), int(rng.integers(2, 5))
        draft, usable = random_law(rng, size, 0.0), random_law(rng, size, 0.0)
        law = nearest(draft[None], usable[None], np.array([m])).law[0]
        sets = np.array([[(a >> x) & 1 for x in range(size)] for a in range(1, 2**size)], dtype=float)
        bound = 1 - np.maximum(1 - sets @ draft, 0.0) ** m
        assert (sets @ law <= bound + 1e-9).all()
        slopes = (
            np.log(np.maximum(law, 1e-12) / usable),  # KL(s || q)
            -usable / np.maximum(law, 1e-12),  # KL(q || s)
            law / usable,  # chi-square
        )
        for slope in slopes:  # of a convex function at s: s is its minimum if no law of the polytope lies downhill
            downhill = linprog(slope, A_ub=sets, b_ub=bound, A_eq=np.ones((1, size)), b_eq=[1.0], bounds=(0, None))
            assert downhill.fun >= slope @ law - 1e-5 * max(1.0, np.abs(slope).max())


def test_a_string_that_is_not_quite_taut_is_told_as_it_is():
    """Over a wide support Newton's steps and the sweeps leave something: the law still adds up, and keeps to the bound."""
    rng = np.random.default_rng(1)
    draft = rng.dirichlet(np.full(800, 0.3), 20)
    usable = 0.6 * rng.dirichlet(np.full(800, 0.3), 20) + 0.4 * draft
    law = nearest(draft, usable, np.full(20, 8)).law
    assert law.sum(-1) == pytest.approx(1.0, abs=1e-12)
    assert (law <= 1 - (1 - draft) ** 8 + 1e-12).all()
