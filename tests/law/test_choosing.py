"""A choosing rule's told law is the law of what it takes, proved by enumeration."""

import numpy as np
import pytest

from cactus_core.coins import Site
from cactus_core.rules import RULES
from tests.law.enumerating import every_branch


def random_law(rng, size, zeros):
    law = rng.dirichlet(np.full(size, 0.7))
    law[rng.random(size) < zeros] = 0.0
    return law / law.sum() if law.sum() else np.eye(size)[0]


@pytest.mark.parametrize("num_paths", [1, 2, 3, 5])
@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_the_taken_token_has_the_law_that_is_told(rule, num_paths):
    rng = np.random.default_rng(num_paths)
    for _ in range(12):
        size = int(rng.integers(1, 4))
        draft, target = random_law(rng, size, 0.2), random_law(rng, size, 0.2) * rng.random()
        weight = rng.random()
        told = []

        def program(coins, n, draft=draft, target=target, weight=weight, told=told):
            proposed = np.stack([coins.draw(np.tile(draft, (n, 1)), Site.DRAFT, row) for row in range(num_paths)], -1)
            active = np.ones((n, num_paths), dtype=bool)
            taken, law = rule.choose(np.tile(draft, (n, 1)), np.tile(target, (n, 1)), np.full(n, weight), proposed, active, coins, 0)
            told.append(law[0])
            assert (law == law[0]).all()  # the law does not depend on what was drawn
            return taken

        taken, probability = every_branch(program)
        assert np.bincount(taken, probability, minlength=size) == pytest.approx(told[0], abs=1e-12)


def test_more_paths_never_serve_the_target_less():
    rng = np.random.default_rng(0)
    for _ in range(50):
        draft, target = random_law(rng, 6, 0.1), random_law(rng, 6, 0.1)
        served = []
        for num_paths in (1, 2, 4, 8, 16):
            coins = NoFlips()
            _, law = RULES["quota"].choose(
                draft[None], target[None], np.ones(1), np.full((1, num_paths), draft.argmax()), np.ones((1, num_paths), bool), coins, 0
            )
            served.append(np.minimum(law[0], target).sum())
        assert (np.diff(served) >= -1e-12).all()


class NoFlips:
    def flip(self, probability, site, depth):
        return np.zeros(probability.shape, bool)
