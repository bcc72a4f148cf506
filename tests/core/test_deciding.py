"""One path a session is decided on at all depths at once, as it would be among several."""

from dataclasses import fields, replace

import numpy as np
import pytest

from benchmarks.drafts import synthetic_paths
from cactus_core.coins import SeededCoins
from cactus_core.paths import Verdicts
from cactus_core.rules import RULES

NUM_SESSIONS, LENGTH = 40, 5
COMPOSED = [name for name in RULES if "+" in name]


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.5])
def test_a_path_alone_is_decided_on_as_beside_others(name, noise):
    rng = np.random.default_rng(int(10 * noise))
    alone = synthetic_paths(NUM_SESSIONS, 1, LENGTH, rng, noise)
    lengths = np.arange(NUM_SESSIONS) % (LENGTH + 1)  # none among them
    alone = replace(alone, lengths=lengths, num_rows=np.minimum(lengths, 1))
    beside = replace(
        alone, proposed=np.pad(alone.proposed, ((0, 0), (0, 1), (0, 0))), law_of=np.pad(alone.law_of, ((0, 0), (0, 1), (0, 0)))
    )
    coins = SeededCoins(np.arange(NUM_SESSIONS), np.zeros(NUM_SESSIONS))
    left = np.full(NUM_SESSIONS, np.inf)
    found, expected = (RULES[name].decide(paths, coins, None, left) for paths in (alone, beside))
    for column in fields(Verdicts):
        np.testing.assert_array_equal(getattr(found, column.name), getattr(expected, column.name))
    assert len(set(found.accepted.tolist())) > 2
