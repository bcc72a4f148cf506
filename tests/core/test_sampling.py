"""Sampling parameters and the law they make."""

import math

import numpy as np
import pytest

from cactus_core.errors import InvalidInput
from cactus_core.sampling import SamplingParams, probabilities

LOGITS = np.log(np.array([[0.5, 0.25, 0.15, 0.1]]))


def test_temperature_one_is_the_softmax():
    assert probabilities(LOGITS, SamplingParams()) == pytest.approx(np.exp(LOGITS))


def test_temperature_zero_is_the_likeliest_token():
    assert probabilities(LOGITS, SamplingParams(temperature=0.0)).tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_top_k_keeps_the_k_likeliest():
    assert probabilities(LOGITS, SamplingParams(top_k=2)) == pytest.approx(np.array([[2 / 3, 1 / 3, 0, 0]]))


def test_top_p_keeps_the_fewest_that_reach_it():
    assert probabilities(LOGITS, SamplingParams(top_p=0.7)) == pytest.approx(np.array([[2 / 3, 1 / 3, 0, 0]]))


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"temperature": math.nan}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(InvalidInput):
        SamplingParams(**bad)
