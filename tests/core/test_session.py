"""What the two sides tell each other, checked when made."""

import math

import pytest

from cactus_core.acceptance import RELAXATIONS, STRENGTH_OF, TOKEN_LEVEL, Acceptance
from cactus_core.errors import InvalidInput
from cactus_core.sampling import SamplingParams
from cactus_core.session import Decision, Request


def test_every_relaxation_says_what_its_strength_is():
    assert list(STRENGTH_OF) == [*RELAXATIONS, *TOKEN_LEVEL]


@pytest.mark.parametrize(
    ("logprobs", "divergence", "says"),
    [((-1.0,), (0.0, 0.0), "1 logprobs"), ((-1.0, -1.0), (0.0,), "1 entries"), ((-1.0, -1.0), (0.0, -0.5), "0 nats or more"),
     ((-1.0, -1.0), (math.nan, 0.0), "0 nats or more")],
)  # fmt: skip
def test_a_decision_has_a_logprob_and_an_entry_for_each_token(logprobs, divergence, says):
    with pytest.raises(InvalidInput, match=says):
        Decision(0, 5, 0, 1, 7, logprobs, divergence, None, 0.0, 0.0)


def test_a_decision_spells_out_all_that_stands_of_a_tree_or_nothing():
    assert Decision(0, 5, 0, 1, 7, (-1.0, -1.0), (0.0, 0.0), None, 0.0, 0.0, accepted=(4,)).accepted == (4,)
    with pytest.raises(InvalidInput, match="spells out 2"):
        Decision(0, 5, 0, 1, 7, (-1.0, -1.0), (0.0, 0.0), None, 0.0, 0.0, accepted=(4, 5))


def test_what_came_before_a_cut_leaves_something_to_come():
    assert Request((1,), 3, 0, "f", committed=(5, 6)).committed == (5, 6)
    with pytest.raises(InvalidInput, match="2 tokens of at most 2 came already"):
        Request((1,), 2, 0, "f", committed=(5, 6))
    with pytest.raises(InvalidInput, match="committed names token 9"):
        Request((1,), 3, 0, "f", committed=(9,)).check_vocabulary(9)


def test_a_decision_tells_the_likeliest_at_each_place_or_at_none():
    likeliest = ((3, -0.5),)
    assert Decision(0, 5, 0, 1, 7, (-1.0, -1.0), (0.0, 0.0), None, 0.0, 0.0, (likeliest, ())).top_logprobs == (likeliest, ())
    with pytest.raises(InvalidInput, match="likeliest in 1 places"):
        Decision(0, 5, 0, 1, 7, (-1.0, -1.0), (0.0, 0.0), None, 0.0, 0.0, (likeliest,))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"stop_ids": tuple(range(65))}, "at most 64"),
        ({"stop_ids": (3, -1)}, "at most 64 token ids"),
        ({"num_top_logprobs": 21}, "between 0 and 20"),
        ({"num_top_logprobs": -1}, "between 0 and 20"),
    ],
)
def test_requests_that_ask_for_too_much_are_refused(fields, says):
    with pytest.raises(InvalidInput, match=says):
        Request((1,), 5, 0, "", **fields)


@pytest.mark.parametrize("cut", [{"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_accepting_the_k_likeliest_needs_a_law_that_is_not_cut(cut):
    top_k = Acceptance(relaxation="top_k", strength=3.0)
    assert Request((1,), 5, 0, "", sampling=SamplingParams(0.7, repetition_penalty=1.5), acceptance=top_k)
    with pytest.raises(InvalidInput, match="fewer tokens"):
        Request((1,), 5, 0, "", sampling=SamplingParams(**cut), acceptance=top_k)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt": (3, 10)}, "the prompt names token 10, but the vocabulary has 10"),
        ({"prompt": (-3,)}, "the prompt names token -3"),
        ({"stop_ids": (3, 12)}, "stop_ids names token 12"),
        ({"sampling": SamplingParams(logit_bias=((9, 1.0), (11, 1.0)))}, "logit_bias names token 11"),
    ],
)
def test_tokens_outside_the_vocabulary_are_named_and_refused(fields, says):
    good = {"prompt": (9,), "stop_ids": (9,), "sampling": SamplingParams(logit_bias=((9, 1.0),))}
    Request(max_tokens=5, seed=0, fingerprint="", **good).check_vocabulary(10)
    with pytest.raises(InvalidInput, match=says):
        Request(max_tokens=5, seed=0, fingerprint="", **{**good, **fields}).check_vocabulary(10)
