"""What is remembered of the noise is the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.gumbel import gumbel
from edge.drafting import known_noise
from edge.drafting.known_noise import KnownNoise

V = 20


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=5), min_size=1, max_size=8))
def test_it_is_the_noise_in_whatever_order_it_is_asked_for(calls: list[list[int]]) -> None:
    noise = KnownNoise(2**64 - 1, V)
    for positions in map(np.array, calls):
        np.testing.assert_allclose(noise(positions), gumbel(2**64 - 1, positions[:, None], np.arange(V)), rtol=1e-6)


def test_only_what_was_not_asked_for_lately_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def watched(seed: int, position: int, tokens: Any) -> Any:
        made.append(position)
        return gumbel(seed, position, tokens)

    monkeypatch.setattr(known_noise, "gumbel", watched)
    monkeypatch.setattr(known_noise, "_NUM_POSITIONS", 3)
    noise = KnownNoise(3, V)
    for positions in ([7, 8, 7], [7], [9], [7, 11], [8], [7]):
        noise(np.array(positions))
    assert made == [7, 8, 9, 11, 8]
