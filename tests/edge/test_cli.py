"""What the flags of `cactus generate` ask for, and the line that says what came of it."""

import math

import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.errors import InvalidInput, Unsupported
from edge.cli import acceptance_of, generate, logit_bias_of
from edge.completion import Completion
from edge.rounds import Origin, Token
from edge.summary import Summary
from edge.terminal import acceptance_line


@pytest.mark.parametrize(
    ("flags", "acceptance"),
    [
        ({}, Acceptance()),
        ({"rule": "quota+token"}, Acceptance("quota+token")),
        ({"delta": 0.05}, Acceptance(relaxation="certified", strength=0.05)),
        ({"delta": 0.05, "budget": 3.0}, Acceptance(relaxation="certified", strength=0.05, budget=3.0)),
        ({"rule": "first+block", "relaxation": "priced", "strength": 2.0}, Acceptance("first+block", "priced", 2.0)),
    ],
)
def test_flags_make_an_acceptance(flags, acceptance):
    assert acceptance_of(**flags) == acceptance


@pytest.mark.parametrize(
    ("flags", "error", "says"),
    [
        ({"delta": 0.05, "strength": 0.1}, InvalidInput, "one or the other"),
        ({"delta": 0.05, "relaxation": "priced"}, InvalidInput, "one or the other"),
        ({"relaxation": "priced"}, InvalidInput, "go together"),
        ({"strength": 0.0}, InvalidInput, "go together"),
        ({"budget": 3.0}, InvalidInput, "try --delta"),
        ({"relaxation": "wishful", "strength": 1.0}, Unsupported, "no relaxation is called 'wishful'"),
        ({"relaxation": "typical", "strength": 0.3, "budget": 1.0}, InvalidInput, "runs as published"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line_each(flags, error, says):
    with pytest.raises(error, match=says) as raised:
        acceptance_of(**flags)
    assert "\n" not in str(raised.value)


def test_biases_are_pairs_of_an_id_and_a_number():
    assert logit_bias_of(["42:-1.5", "7:100"]) == ((42, -1.5), (7, 100.0))


@pytest.mark.parametrize("flag", ["42", "42:", ":1", "a:1", "1.5:1", "1:2:3"])
def test_other_biases_are_refused_with_an_example(flag):
    with pytest.raises(InvalidInput, match="such as 42:-1"):
        logit_bias_of([flag])


def test_logprobs_that_would_go_nowhere_are_refused():
    with pytest.raises(InvalidInput, match="--json"):
        generate(logprobs=3)


@pytest.mark.parametrize(
    ("acceptance", "line"),
    [
        (Acceptance(), "nearest+block, exact"),
        (Acceptance(relaxation="certified", strength=0.1, budget=3.0), "nearest+block, bounded: 1.32 of 3.00 nats spent"),
        (Acceptance("first+token", "interpolate", 0.5), "first+token, unbounded: 1.32 nats spent"),
        (Acceptance(relaxation="cactus", strength=0.1), "cactus, unbounded: 1.32 nats spent"),
    ],
)
def test_the_end_says_what_decided_and_what_was_spent(acceptance, line):
    budget = None if math.isinf(acceptance.budget) else acceptance.budget
    assert acceptance_line(acceptance, Summary(divergence=1.32, budget=budget)) == line


def test_a_record_has_null_for_what_is_infinite():
    completion = Completion("p", tokens=[Token(3, Origin.ACCEPTED, -math.inf, math.inf)])
    record = completion.as_record()
    assert record["tokens"] == [{"id": 3, "origin": "accepted", "logprob": None, "divergence": None}]
    assert record["acceptance"] == {"rule": "nearest+block", "relaxation": "", "strength": 0.0, "budget": None, "label": "exact"}


def test_a_record_tells_the_likeliest_where_they_were_asked_for():
    completion = Completion("p", tokens=[Token(3, Origin.ACCEPTED, -0.5, 0.0, ((3, -0.5), (9, -1.0)))])
    assert completion.as_record()["tokens"][0]["likeliest"] == ((3, -0.5), (9, -1.0))
