"""Choosing the likeliest tokens first changes no law."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.sampling import SamplingParams, probabilities
from edge.drafting.draft_laws import likeliest, on_lattice

V = 30


@given(
    st.integers(0, 2**32),
    st.integers(1, V + 3),
    st.sampled_from([0.3, 1.0, 2.5]),
    st.sampled_from([0, 1, 6, 20, V + 1]),
    st.sampled_from([0.05, 0.6, 0.95, 1.0]),
    st.sampled_from([0.0, 0.1]),
)
def test_the_law_on_the_likeliest_is_the_whole_laws(
    seed: int, size: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    params = SamplingParams(temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = 2 * np.random.default_rng(seed).standard_normal((3, V)).astype(np.float32)
    ids, probs = likeliest(logits, params, size)
    whole = probabilities(logits, params)
    best = np.sort(np.argsort(-logits, axis=-1)[:, :size], axis=-1)
    np.testing.assert_array_equal(np.sort(ids, axis=-1), best)
    expected = np.take_along_axis(whole, ids, -1)
    np.testing.assert_allclose(probs / probs.sum(-1, keepdims=True), expected / expected.sum(-1, keepdims=True), atol=1e-9)


def test_a_lattice_law_has_its_ids_in_order_and_no_padding_in_it() -> None:
    laws = on_lattice(np.array([[7, 2, 0], [5, 0, 0]]), np.array([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]]), 4)
    assert laws.ids.tolist() == [[0, 2, 7], [5, 0, 0]]
    assert laws.counts.tolist() == [[4, 8, 4], [16, 0, 0]]
