"""What is remembered of the noise is the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.gumbel import gumbel
from edge import known_noise
from edge.known_noise import KnownNoise

V, W = 20, 5


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32)), min_size=1, max_size=8))
def test_it_is_the_noise_in_whatever_order_it_is_asked_for(calls: list[tuple[int, int, int, int]]) -> None:
    noise = KnownNoise(2**64 - 1, V, W)
    for first, num_rows, num_tokens, seed in calls:
        rng = np.random.default_rng(seed)
        positions, tokens = first + rng.integers(0, W, (num_rows, 1)), rng.integers(0, V, (num_rows, num_tokens))
        np.testing.assert_allclose(noise(positions, tokens), gumbel(2**64 - 1, positions, tokens), rtol=1e-12)


def test_no_number_is_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []

    def watched(seed: int, positions: Any, tokens: Any) -> Any:
        made.extend(zip(positions.tolist(), tokens.tolist(), strict=True))
        return gumbel(seed, positions, tokens)

    monkeypatch.setattr(known_noise, "gumbel", watched)
    noise = KnownNoise(3, V, W)
    noise(np.array([[7], [8], [7]]), np.array([[1, 2], [1, 2], [2, 3]]))
    noise(np.array([[8], [11]]), np.array([[2, 4], [2, 4]]))
    assert sorted(made) == [(7, 1), (7, 2), (7, 3), (8, 1), (8, 2), (8, 4), (11, 2), (11, 4)]
