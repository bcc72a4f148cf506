"""What comes out of the whole system is distributed as the target says."""

import asyncio
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from cactus_core.sampling import SamplingParams
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.tuning.plan import RowsPlan
from tests.integration.conftest import VOCAB_SIZE, system

NUM_REQUESTS, LENGTH, AT_ONCE = 1200, 3, 8
PROMPT, PROMPT_ID, END = "w5", 5, 0


def law_of_texts(model, temperature):
    """The probability of every text of at most `LENGTH` tokens, by the model's own forwards."""
    law = {}
    for text in product(range(VOCAB_SIZE), repeat=LENGTH):
        cut = text[: text.index(END) + 1] if END in text else text
        if cut in law:
            continue
        logits = model(torch.tensor([[PROMPT_ID, *cut]])).logits[0, : len(cut)]
        probs = torch.softmax(logits / temperature, -1)
        law[cut] = float(probs[range(len(cut)), list(cut)].prod())
    assert sum(law.values()) == pytest.approx(1.0, abs=1e-5)
    return law


def p_value(counts, law):
    expected = np.array([law[text] for text in law]) * NUM_REQUESTS
    seen = np.array([counts.get(text, 0) for text in law])
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum())
    seen = np.append(seen[~rare], seen[rare].sum())
    return chisquare(seen, expected * seen.sum() / expected.sum()).pvalue


async def texts(pair, temperature):
    """Each worker has a drafter of its own, as edges do."""
    seeds = iter(range(NUM_REQUESTS))
    counts = Counter()
    async with system(pair.target) as endpoint:

        async def edge():
            client = Completer(endpoint, pair.tokenizer(), pair.drafter(), Drafting(rows=RowsPlan(3, 2)))
            for seed in seeds:
                completion = Completion(PROMPT)
                settings = {"sampling": SamplingParams(temperature), "seed": seed}
                async for _ in client.generate(completion, max_tokens=LENGTH, **settings):
                    pass
                counts[tuple(token.id for token in completion.tokens)] += 1

        await asyncio.gather(*(edge() for _ in range(AT_ONCE)))
    return counts


async def test_a_chi_square_over_the_whole_system_does_not_reject_the_target(small_pair):
    counts = await texts(small_pair, 1.0)
    assert sum(counts.values()) == NUM_REQUESTS
    assert p_value(counts, law_of_texts(small_pair.model, 1.0)) > 1e-3
    # The test has teeth: texts that were the draft's own would be found out.
    assert p_value(counts, law_of_texts(small_pair.draft_model, 1.0)) < 1e-9
