from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import cloud.sampling
from cactus_core import sampling as core
from cactus_core.sampling import SamplingParams
from cloud.sampling import probabilities

V = 40

params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1e-3, 0.3, 0.7, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 2, 7, V - 1, V, 10 * V]),
    # none is a sum of a few equal probabilities: which side of such an edge a token falls is up to the last bit
    top_p=st.sampled_from([1.0, 1e-6, 0.0131, 0.3137, 0.7351, 0.9573]),
)


@given(rows=st.lists(params, min_size=1, max_size=6), seed=st.integers(0, 1 << 20), steps=st.sampled_from([4, 64, 0]))
@settings(max_examples=150, deadline=None)
def test_rows_are_shaped_as_the_core_shapes_them(rows: list[SamplingParams], seed: int, steps: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(len(rows), V)) * 3
    if steps:  # ties, as bfloat16 makes them
        logits = np.round(logits * steps / 8) / steps * 8
    logits = logits.astype(np.float32)
    ours = probabilities(torch.from_numpy(logits), rows)
    assert ours.dtype == torch.float32
    for i, row in enumerate(rows):
        np.testing.assert_allclose(ours[i].numpy(), core.probabilities(logits[i], row), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(0.7, 0, 1.0), (1.3, 5, 1.0), (1.0, 0, 0.8), (0.6, 12, 0.9)])
def test_rows_are_shaped_as_transformers_shapes_them(temperature: float, top_k: int, top_p: float) -> None:
    logits = torch.randn(64, 500, generator=torch.Generator().manual_seed(0)) * 4
    warped = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    if top_p < 1.0:
        warped = TopPLogitsWarper(top_p)(None, warped)
    ours = probabilities(logits, [SamplingParams(temperature, top_k, top_p)] * 64)
    assert torch.allclose(ours, warped.softmax(-1), atol=1e-6)


def test_a_nucleus_wider_than_expected_is_found_by_sorting_all(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(8, 300, generator=torch.Generator().manual_seed(0))
    rows = [SamplingParams(1.0, 0, 0.9)] * 7 + [SamplingParams(1.0, 0, 0.05)]
    whole = probabilities(logits, rows)
    monkeypatch.setattr(cloud.sampling, "_LIKELY_NUCLEUS", 20)
    assert torch.equal(probabilities(logits, rows), whole)
    assert (whole[0] > 0).sum() > 20 > (whole[7] > 0).sum()


def test_a_row_that_keeps_everything_is_untouched_by_its_neighbours() -> None:
    logits = torch.randn(3, 3000, generator=torch.Generator().manual_seed(0))
    rows = [SamplingParams(), SamplingParams(top_p=0.5), SamplingParams(top_k=3)]
    assert torch.allclose(probabilities(logits, rows)[0], logits[0].softmax(-1), rtol=1e-6)


def test_greedy_rows_take_the_first_maximum_whatever_they_truncate() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.bfloat16)
    rows = [SamplingParams(0.0, 1, 0.1), SamplingParams(0.0)]
    expected = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert torch.equal(probabilities(logits, rows), expected)
    assert torch.equal(probabilities(logits, [rows[0], SamplingParams(1.0)])[0], expected[0])


def test_logits_are_left_as_they_were() -> None:
    logits = torch.randn(2, 50)
    before = logits.clone()
    probabilities(logits, [SamplingParams(0.5, 3, 0.5), SamplingParams(0.0)])
    assert torch.equal(logits, before)


def test_each_row_needs_its_parameters() -> None:
    with pytest.raises(ValueError, match="2 rows"):
        probabilities(torch.zeros(2, 5), [SamplingParams()])


def test_no_rows_have_no_laws() -> None:
    assert probabilities(torch.zeros(0, 5), []).shape == (0, 5)
