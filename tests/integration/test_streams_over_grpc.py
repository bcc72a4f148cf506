"""Real drafts along real streams, over a link that may be cut: the text is the one that the cloud alone would write."""

import asyncio
import math
from contextlib import aclosing, asynccontextmanager

import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.errors import InvalidInput, Unavailable
from cactus_core.sampling import SamplingParams
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.link import Endpoint
from edge.tuning.plan import FOR_EACH, RowsPlan, TreePlan
from tests.integration.conftest import system
from tests.integration.cutting_relay import CuttingRelay

ENDLESS = ((0, -100.0),)  # without this bias most texts are short: one token in eight ends them
GREEDY, RANDOM = (SamplingParams(temperature=temperature, logit_bias=ENDLESS) for temperature in (0.0, 1.0))
COUPLED = Acceptance("coupled")
PLANS = {
    "a wait for each tree": TreePlan(6, 4, FOR_EACH),
    "some wait": TreePlan(6, 4, 0.002),
    "a stream": TreePlan(12, 6, 0.0),
    "tuned": None,
}
NUM_TOKENS, CUT_EVERY = 60, 5


@asynccontextmanager
async def cut_system(pair):
    """A relay in front of the whole system, and an endpoint behind the relay."""
    async with system(pair.target) as endpoint, CuttingRelay(endpoint.address) as relay, Endpoint(relay.address) as cut_endpoint:
        yield relay, cut_endpoint


async def complete(client, *, sampling=RANDOM, acceptance=COUPLED, seed=7, relay=None, refuses=False, **others):
    """A completion; over a `relay` that is cut after every few tokens, and `refuses` from then on."""
    completion = Completion("w5 w2")
    settings = {"max_tokens": NUM_TOKENS, "sampling": sampling, "seed": seed, "acceptance": acceptance, **others}
    async with asyncio.timeout(60), aclosing(client.generate(completion, **settings)) as pieces:
        async for _ in pieces:
            if relay and len(completion.tokens) % CUT_EVERY == 0:
                relay.refuses = refuses
                relay.cut()
    return completion


def ids(completion):
    return [token.id for token in completion.tokens]


@pytest.mark.parametrize("sampling", [GREEDY, RANDOM], ids=["greedy", "random"])
async def test_coupled_text_is_the_same_however_it_is_drafted(small_pair, sampling):
    async with system(small_pair.target) as endpoint:
        alone = await complete(Completer(endpoint, small_pair.tokenizer(), None), sampling=sampling)
        assert len(ids(alone)) == NUM_TOKENS
        for plan in PLANS.values():
            client = Completer(endpoint, small_pair.tokenizer(), small_pair.drafter(), Drafting(tree=plan))
            drafted = await complete(client, sampling=sampling)
            assert ids(drafted) == ids(alone)
            assert drafted.summary.drafter_error == ""
            if plan and plan.wait_s == FOR_EACH:
                assert drafted.summary.num_accepted > NUM_TOKENS / 4


@pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
async def test_coupled_text_over_a_link_that_is_cut_ten_times_is_the_same(small_pair, plan):
    async with cut_system(small_pair) as (relay, endpoint):
        whole = await complete(Completer(endpoint, small_pair.tokenizer(), None))
        client = Completer(endpoint, small_pair.tokenizer(), small_pair.drafter(), Drafting(tree=plan))
        cut = await complete(client, relay=relay)
    assert ids(cut) == ids(whole)
    assert cut.text == whole.text
    assert cut.summary.num_tokens == NUM_TOKENS
    assert cut.summary.num_resumes >= 5
    times = [done.at_s for done in cut.rounds]
    assert times == sorted(times)


async def test_a_cloud_that_decodes_alone_goes_on_after_each_cut(small_pair):
    async with cut_system(small_pair) as (relay, endpoint):
        client = Completer(endpoint, small_pair.tokenizer(), None)
        whole, cut = await complete(client), await complete(client, relay=relay)
    assert ids(cut) == ids(whole)
    assert cut.summary.num_resumes >= 5


async def test_rounds_of_a_fixed_plan_bring_the_same_text_after_cuts(small_pair):
    async with cut_system(small_pair) as (relay, endpoint):
        whole, cut = [
            await complete(
                Completer(endpoint, small_pair.tokenizer(), small_pair.drafter(), Drafting(rows=RowsPlan(2, 3))),
                acceptance=Acceptance(),
                relay=each,
            )
            for each in (None, relay)
        ]
    assert ids(cut) == ids(whole)
    assert cut.summary.num_tokens == NUM_TOKENS
    assert cut.summary.num_resumes >= 5


async def test_a_budget_holds_over_all_streams_of_a_text_together(small_pair):
    budget = 0.6
    acceptance = Acceptance(relaxation="certified", strength=0.3, budget=budget)
    async with cut_system(small_pair) as (relay, endpoint):
        client = Completer(endpoint, small_pair.tokenizer(), small_pair.drafter(), Drafting(rows=RowsPlan(3, 3)))
        for seed in range(3):
            cut = await complete(client, acceptance=acceptance, seed=seed, relay=relay)
            assert cut.summary.num_resumes >= 5
            assert 0.5 * budget < math.fsum(token.divergence for token in cut.tokens) <= budget


async def test_patience_has_an_end(small_pair):
    async with cut_system(small_pair) as (relay, endpoint):
        client = Completer(endpoint, small_pair.tokenizer(), small_pair.drafter(), Drafting(patience_s=0.3))
        with pytest.raises(Unavailable):
            await complete(client, relay=relay, refuses=True)
        assert relay.num_refused > 1


async def test_what_never_worked_is_not_tried_again(small_pair):
    async with cut_system(small_pair) as (relay, endpoint):
        relay.refuses = True
        with pytest.raises(Unavailable):
            await complete(Completer(endpoint, small_pair.tokenizer(), None, Drafting(patience_s=math.inf)))


async def test_a_request_that_cannot_be_opened_where_others_were_is_tried_for_as_long_as_patience_lasts(small_pair):
    async with cut_system(small_pair) as (relay, endpoint):
        hasty, patient = (Completer(endpoint, small_pair.tokenizer(), None, Drafting(patience_s=s)) for s in (0.0, math.inf))
        for client in (hasty, patient):
            await complete(client, max_tokens=2)
        relay.refuses = True
        relay.cut()
        with pytest.raises(Unavailable):
            await complete(hasty)
        going_on = asyncio.create_task(complete(patient))
        await asyncio.sleep(0.2)
        assert not going_on.done()
        relay.refuses = False
        assert len((await going_on).tokens) == NUM_TOKENS


async def test_what_is_wrong_with_a_request_is_not_tried_again(small_pair):
    async with system(small_pair.target) as endpoint:
        client = Completer(endpoint, small_pair.tokenizer(), None, Drafting(patience_s=math.inf))
        with pytest.raises(InvalidInput):
            await complete(client, stop_ids=(99,))
