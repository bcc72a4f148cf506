"""The rejection family's tuner, round by round in simulated worlds, against fixed plans."""

import json
from functools import cache

import numpy as np
import pytest

from cactus_core.session import Limits
from edge.rounds import Origin, Round, Token
from edge.tuning.plan import RowsPlan
from edge.tuning.rows_tuner import ALONE, RowsTuner

GOOD, POOR, USELESS = 0.8, 0.4, 0.02
STEP_S = {"slow": lambda num_drafted: 0.03, "cheap": lambda num_drafted: 0.0055 + 0.0003 * num_drafted}
GRID = [ALONE, *(RowsPlan(num_rows, length) for num_rows in (1, 2, 4) for length in (2, 4, 8))]


def round_of(plan, num_accepted, step_s, round_trip_s):
    tokens = (Token(1, Origin.ACCEPTED, 0.0, 0.0),) * num_accepted + (Token(1, Origin.CORRECTED, 0.0, 0.0),)
    num_drafted = plan.num_rows * plan.length
    draft_s = 0.002 + 0.0008 * num_drafted
    return Round(
        tokens, num_drafted, plan.length, num_accepted, draft_s, step_s(num_drafted) + round_trip_s, 0.0, step_s(num_drafted), 0.0, None
    )


def run(tuner, step, round_trip_s, quality, num_rounds=300):
    """Tokens and seconds of each round: every token of the best path stands with a probability that more paths raise. A plan to draft no
    more ends the rounds, and the cloud streams a token a step.
    """
    rng, told = np.random.default_rng(0), []
    for _ in range(num_rounds):
        plan = tuner.next()
        if not plan.num_rows:
            told += [(1, STEP_S[step](0))] * (num_rounds - len(told))
            break
        stands = rng.random(plan.length) < 1.0 - (1.0 - quality) ** (1.0 + 0.3 * (plan.num_rows - 1))
        done = round_of(plan, int(np.cumprod(stands).sum()), STEP_S[step], round_trip_s)
        tuner.saw(done)
        told.append((len(done.tokens), done.draft_s + done.wait_s))
    return np.array(told)


def pace(told):
    return told[:, 0].sum() / told[:, 1].sum()


def tuner_of(fixed=None, limits=None, support_size=8):
    return RowsTuner(limits or Limits(), support_size, fixed=fixed)


@cache
def best_pace(step, round_trip_s, quality):
    return max(pace(run(tuner_of(plan), step, round_trip_s, quality)) for plan in GRID)


@pytest.mark.parametrize("quality", [GOOD, POOR, USELESS])
@pytest.mark.parametrize("round_trip_s", [0.0005, 0.01, 0.04, 0.09])
@pytest.mark.parametrize("step", STEP_S)
def test_once_learnt_the_pace_is_near_the_best_fixed_plans(step, round_trip_s, quality):
    told = run(tuner_of(), step, round_trip_s, quality)
    assert pace(told[150:]) >= 0.8 * best_pace(step, round_trip_s, quality)


def test_a_drafter_that_is_no_use_is_left_and_stays_left():
    tuner = tuner_of()
    run(tuner, "slow", 0.04, USELESS)
    assert [tuner.next() for _ in range(30)] == [ALONE] * 30
    assert tuner.explain()["mode"] == "off"


def test_a_fixed_plan_stays_as_it_is():
    tuner = tuner_of(RowsPlan(3, 5))
    run(tuner, "slow", 0.04, USELESS)
    assert tuner.next() == RowsPlan(3, 5)


@pytest.mark.parametrize("limits", [Limits(max_rows=3, max_length=4), Limits(max_law_tokens=40), Limits(max_law_tokens=8)])
@pytest.mark.parametrize("fixed", [None, RowsPlan(8, 16)], ids=["tuned", "fixed"])
def test_no_plan_exceeds_what_the_endpoint_takes(limits, fixed):
    tuner, rng = tuner_of(fixed, limits), np.random.default_rng(0)
    for _ in range(100):
        plan = tuner.next()
        if not plan.num_rows:
            break
        assert plan.num_rows <= limits.max_rows
        assert plan.length <= limits.max_length
        assert plan.num_rows * plan.length * 8 <= limits.max_law_tokens
        tuner.saw(round_of(plan, int(rng.integers(0, plan.length + 1)), STEP_S["slow"], 0.001))


def test_its_explanation_is_plain_figures():
    tuner = tuner_of()
    assert json.dumps(tuner.explain(), allow_nan=False)
    run(tuner, "slow", 0.01, GOOD)
    found = json.loads(json.dumps(tuner.explain(), allow_nan=False))
    assert found["mode"] == "rounds"
    assert found["round_trip_ms"] == pytest.approx(10.0)
    assert len(found["expected"]) == 4
