"""Divergence through the whole system: a budget holds, and what is told of each token adds up to what is told of the text."""

import asyncio

from cactus_core.acceptance import Acceptance
from cactus_core.sampling import SamplingParams
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.tuning.plan import RowsPlan
from tests.integration.conftest import system

NUM_REQUESTS = 24


async def completions(endpoint, pair, acceptance, *, num_requests=NUM_REQUESTS, sampling=None):
    """Texts one after another, of an edge of their own."""
    client, done = Completer(endpoint, pair.tokenizer(), pair.drafter(), Drafting(rows=RowsPlan(3, 3))), []
    for seed in range(num_requests):
        completion = Completion("w5 w2")
        settings = {"sampling": sampling or SamplingParams(), "seed": seed, "acceptance": acceptance}
        async for _ in client.generate(completion, max_tokens=30, **settings):
            pass
        assert completion.summary.divergence == sum(token.divergence for token in completion.tokens)
        done.append(completion)
    return done


async def test_a_budget_holds_over_many_requests_and_is_spent(small_pair):
    budget = 0.6
    async with system(small_pair.target) as endpoint:
        done = await completions(endpoint, small_pair, Acceptance(relaxation="certified", strength=0.3, budget=budget))
    spent = [completion.summary.divergence for completion in done]
    assert max(spent) <= budget
    assert sum(nats > 0.99 * budget for nats in spent) > NUM_REQUESTS / 3
    assert max(token.divergence for completion in done for token in completion.tokens) <= 0.3 + 1e-6


async def test_a_delta_holds_at_every_token_without_a_budget(small_pair):
    async with system(small_pair.target) as endpoint:
        done = await completions(endpoint, small_pair, Acceptance("quota+token", "certified", 0.1))
    entries = [token.divergence for completion in done for token in completion.tokens]
    assert 0.09 < max(entries) <= 0.1 + 1e-6
    assert max(completion.summary.divergence for completion in done) > 0.6


async def test_the_cheaper_the_law_the_more_of_a_block_stands(small_pair):
    """Two edges at once: steps in which one session is exact and the other is not."""
    acceptances = Acceptance(), Acceptance(relaxation="certified", strength=0.3)
    async with system(small_pair.target) as endpoint:
        exact, relaxed = await asyncio.gather(*(completions(endpoint, small_pair, acceptance) for acceptance in acceptances))
    assert all(token.divergence == 0.0 for completion in exact for token in completion.tokens)
    stands = [sum(c.summary.num_accepted for c in done) / sum(c.summary.num_draft_positions for c in done) for done in (exact, relaxed)]
    assert stands[1] > 1.2 * stands[0]


async def test_greedy_text_that_may_hardly_stray_is_the_targets_own(small_pair):
    greedy = {"sampling": SamplingParams(0.0), "num_requests": 1}
    async with system(small_pair.target) as endpoint:
        [own] = await completions(endpoint, small_pair, Acceptance(), **greedy)
        [near] = await completions(endpoint, small_pair, Acceptance(relaxation="certified", strength=0.05), **greedy)
    assert [token.id for token in near.tokens] == [token.id for token in own.tokens]
    assert near.summary.divergence == 0.0
