"""No text and no wait of one goes by the wall clock: whoever sets it, forward or back, changes nothing.

gRPC reckons the deadlines of single calls by it, so that a step in the middle of `Describe` may cost that call: it is asked before.
"""

import itertools
import time

import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.tuning.plan import RowsPlan, TreePlan
from tests.integration.conftest import system

DAY_S = 86_400.0


async def text_of(client, acceptance, temperature):
    completion = Completion("w5 w2")
    sampling = SamplingParams(temperature, logit_bias=((0, -100.0),))
    async for _ in client.generate(completion, max_tokens=48, sampling=sampling, seed=4, acceptance=acceptance):
        pass
    return [token.id for token in completion.tokens], completion.summary.num_resumes


@pytest.mark.parametrize(
    ("drafting", "acceptance", "temperature"),
    [(Drafting(tree=TreePlan(6, 4, 0.002)), Acceptance(COUPLED), 0.9), (Drafting(rows=RowsPlan(2, 3)), Acceptance(), 0.0)],
    ids=["coupled", "blocks"],
)
async def test_a_clock_that_jumps_by_days_at_every_look_changes_no_text(small_pair, monkeypatch, drafting, acceptance, temperature):
    real, jumps = time.time, itertools.cycle((DAY_S, -DAY_S, 30 * DAY_S, -365 * DAY_S))
    async with system(small_pair.target) as endpoint:
        client = Completer(endpoint, small_pair.tokenizer(), small_pair.drafter(), drafting)
        still = await text_of(client, acceptance, temperature)
        monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
        monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * time.time()))
        assert await text_of(client, acceptance, temperature) == still
        assert still[1] == 0
