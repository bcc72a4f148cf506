"""The demo pair through the whole system: its greedy text is the target's own, and its drafts are worth having."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cactus_core.demo_pair import demo_model
from cactus_core.sampling import SamplingParams
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.tokenizer import Tokenizer
from edge.tuning.plan import RowsPlan
from tests.integration.conftest import system
from tests.integration.prompts import PROMPTS

K, L = 4, 6


class Reference(NamedTuple):
    """The pair as `transformers` runs it."""

    target: object
    draft: object
    tokenizer: object


@pytest.fixture(scope="module")
def reference():
    folders = [demo_model(role) for role in ("target", "draft")]
    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False) for folder in folders]
    return Reference(*models, AutoTokenizer.from_pretrained(folders[0]))


async def completions(prompts, *, temperature, max_tokens, seed=0):
    draft = Path(demo_model("draft"))
    done = []
    async with system(demo_model("target")) as endpoint:
        client = Completer(endpoint, Tokenizer.load(draft), OnnxDrafter.load(draft), Drafting(rows=RowsPlan(K, L)))
        for number, prompt in enumerate(prompts):
            completion = Completion(prompt)
            settings = {"sampling": SamplingParams(temperature), "seed": seed * 1000 + number}
            async for _ in client.generate(completion, max_tokens=max_tokens, **settings):
                pass
            done.append(completion)
    return done


async def test_greedy_text_through_the_whole_system_is_the_targets_own(reference):
    prompts = PROMPTS[:20]
    for prompt, completion in zip(prompts, await completions(prompts, temperature=0.0, max_tokens=64), strict=True):
        inputs = reference.tokenizer(prompt, return_tensors="pt")
        own = reference.target.generate(**inputs, do_sample=False, max_new_tokens=64, use_cache=True)[0, inputs.input_ids.shape[1] :]
        assert [token.id for token in completion.tokens] == own.tolist()


def overlap(reference, completion):
    """sum min(p, q) at each place of a completion, by the models' own forwards."""
    prompt = reference.tokenizer(completion.prompt).input_ids
    ids = torch.tensor([[*prompt, *(token.id for token in completion.tokens)]])
    laws = [torch.softmax(model(ids).logits[0, len(prompt) - 1 : -1], -1) for model in (reference.draft, reference.target)]
    return torch.minimum(*laws).sum(-1).numpy()


async def measured(reference, num_seeds):
    """Tokens per round, the standard error of that, and what token-level sampling brings at the overlap along the same texts."""
    done = [c for seed in range(num_seeds) for c in await completions(PROMPTS, temperature=1.0, max_tokens=96, seed=seed)]
    # The last round of a text is cut short by max_tokens, which says nothing about the drafts.
    rounds = np.array([len(r.tokens) for completion in done for r in completion.rounds[:-1]])
    a = np.concatenate([overlap(reference, completion) for completion in done]).mean()
    mean, error, token_level = rounds.mean(), rounds.std() / len(rounds) ** 0.5, (1 - a ** (L + 1)) / (1 - a)
    print(f"\n{mean:.3f} +- {error:.3f} tokens per round over {len(rounds)} rounds; overlap {a:.4f};", end=" ")
    print(f"token-level speculative sampling at that overlap {token_level:.3f}, ratio {mean / token_level:.3f}")
    return mean, error, token_level


@pytest.mark.slow
async def test_drafts_bring_at_least_1_3_times_the_tokens_of_token_level_speculative_sampling(reference):
    mean, error, token_level = await measured(reference, 8)
    assert error < 0.04
    assert mean >= 3.4
    assert mean >= 1.3 * token_level
