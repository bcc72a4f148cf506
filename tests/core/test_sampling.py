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


def test_min_p_keeps_what_is_not_too_far_below_the_likeliest():
    assert probabilities(LOGITS, SamplingParams(min_p=0.4)) == pytest.approx(np.array([[2 / 3, 1 / 3, 0, 0]]))


def test_min_p_is_measured_after_temperature():
    halves = np.log(np.array([[0.5, 0.25]])) / 2  # at temperature 2 the second has 0.71 of the first's probability
    assert (probabilities(halves * 2, SamplingParams(2.0, min_p=0.7)) > 0).tolist() == [[True, True]]
    assert (probabilities(halves * 2, SamplingParams(1.0, min_p=0.7)) > 0).tolist() == [[True, False]]


def test_top_p_counts_what_min_p_will_cut():
    """As in transformers: 0.6 of the whole law needs two tokens; of what min-p leaves, one would do."""
    assert probabilities(LOGITS, SamplingParams(top_p=0.6, min_p=0.4)) == pytest.approx(np.array([[2 / 3, 1 / 3, 0, 0]]))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": 1e-9}, "0 .greedy. or between"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": math.nan}, "min_p"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": math.nan}, "frequency_penalty"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": math.inf}, "repetition_penalty"),
        ({"logit_bias": ((3, 1.0), (3, 2.0))}, "names a token twice"),
        ({"logit_bias": ((-1, 1.0),)}, "-1: 1.0"),
        ({"logit_bias": ((1, -100.5),)}, "between -100 and 100"),
        ({"logit_bias": ((1, math.nan),)}, "between -100 and 100"),
        ({"logit_bias": tuple((i, 0.5) for i in range(301))}, "at most 300 tokens, not 301"),
    ],
)
def test_values_out_of_range_are_refused_in_one_line(bad, says):
    with pytest.raises(InvalidInput, match=says) as raised:
        SamplingParams(**bad)
    assert "\n" not in str(raised.value)


def test_parameters_say_what_they_do():
    assert not SamplingParams(0.7).truncates
    assert all(SamplingParams(**cut).truncates for cut in ({"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.1}))
    assert not SamplingParams(0.7, 3, 0.5, 0.1).edits_logits
    assert SamplingParams(logit_bias=((1, 1.0),)).edits_logits
    assert not SamplingParams(logit_bias=((1, 1.0),)).counts_tokens
    assert all(SamplingParams(**{name: 1.5}).counts_tokens for name in ("presence_penalty", "frequency_penalty", "repetition_penalty"))
