"""Under shared noise a seed has one text, whatever link, drafts and faults do: 200 requests, each over every profile, with drafts that are
waited for and drafts that come late, thinking ahead and not, tuned, cut ten times, and without a drafter.

It is so to the last bits of float32 logits, which depend on what shares a step: an own token turns over about once in a million.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.demo_pair import demo_model
from cactus_core.sampling import SamplingParams
from cloud.service import VerifierServer
from cluster.emulated_link import EmulatedLink
from cluster.link_profile import PROFILES
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.link import Endpoint
from edge.tokenizer import Tokenizer
from edge.tuning.plan import DEEPEST, FOR_EACH, TreePlan
from tests.integration.prompts import PROMPTS

NUM_REQUESTS, NUM_TOKENS, NUM_TOKENS_CUT = 200, 24, 64
AT_ONCE, AT_ONCE_AHEAD = 8, 3  # edges; those that think ahead leave each other no processor
NUM_CUTS = 10
WAITED_FOR, LATE = TreePlan(16, DEEPEST, FOR_EACH), TreePlan(24, DEEPEST, 0.0)
ALONE = ("perfect", None, 0)
# Of each condition: the link's profile, how to draft (None: not at all), and after how many tokens the link is cut (0: never).
CONDITIONS = {
    "waited for": ("perfect", Drafting(tree=WAITED_FOR), 0),
    "waited for, ahead": ("far", Drafting(tree=WAITED_FOR, ahead=True), 0),
    "late": ("near", Drafting(tree=LATE), 0),
    "late, ahead": ("regional", Drafting(tree=LATE, ahead=True), 0),
    "tuned": ("near", Drafting(), 0),
    "cut ten times": ("perfect", Drafting(tree=LATE), NUM_TOKENS_CUT // (NUM_CUTS + 2)),
}


class Edge:
    """A client behind a link of its own."""

    def __init__(self, drafter: OnnxDrafter | None, drafting: Drafting | None, link: EmulatedLink, endpoint: Endpoint) -> None:
        self._client = Completer(endpoint, Tokenizer.load(Path(demo_model("draft"))), drafter, drafting)
        self._link = link

    async def text(self, number: int, num_tokens: int, cut_every: int) -> tuple[list[int], int]:
        """The ids, and how often the text went on over another stream."""
        completion, num_cuts = Completion(PROMPTS[number % len(PROMPTS)]), 0
        sampling = SamplingParams((1.0, 0.7, 0.0)[number % 3])
        stream = self._client.generate(completion, max_tokens=num_tokens, sampling=sampling, seed=number, acceptance=Acceptance("coupled"))
        async with aclosing(stream) as pieces:
            async for _ in pieces:
                if cut_every and num_cuts < NUM_CUTS and len(completion.tokens) >= cut_every * (num_cuts + 1):
                    num_cuts += 1
                    self._link.cut()
        return [token.id for token in completion.tokens], completion.summary.num_resumes


async def texts(address: str, condition: tuple[str, Drafting | None, int], num_tokens: int) -> tuple[dict[int, list[int]], int]:
    """Of every request under a condition, and all resumes together."""
    profile, drafting, cut_every = condition
    numbers, found, num_resumes = iter(range(NUM_REQUESTS)), {}, 0
    async with AsyncExitStack() as stack:

        async def work() -> None:
            nonlocal num_resumes
            link = await stack.enter_async_context(EmulatedLink(address, PROFILES[profile]))
            endpoint = await stack.enter_async_context(Endpoint(link.address))
            edge = Edge(OnnxDrafter.load(demo_model("draft")) if drafting else None, drafting, link, endpoint)
            for number in numbers:
                found[number], resumes = await edge.text(number, num_tokens, cut_every)
                num_resumes += resumes

        at_once = AT_ONCE_AHEAD if drafting is not None and drafting.ahead else AT_ONCE
        await asyncio.gather(*(work() for _ in range(at_once)))
    return found, num_resumes


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=[*CONDITIONS])
async def test_a_seed_has_one_text_whatever_link_and_drafts_do(condition):
    async with VerifierServer(demo_model("target"), "127.0.0.1:0", memory_gib=0.5) as verifier:
        await verifier.loaded()
        address, num_tokens = f"127.0.0.1:{verifier.port}", NUM_TOKENS_CUT if condition[2] else NUM_TOKENS
        (alone, _), (found, num_resumes) = [await texts(address, each, num_tokens) for each in (ALONE, condition)]
    differing = [number for number in alone if found[number] != alone[number]]
    print(f"{len(differing)} of {NUM_REQUESTS} texts differ; {num_resumes} times a text went on over another stream")
    assert differing == []
    assert len({tuple(text) for text in alone.values()}) > NUM_REQUESTS / 3  # greedy texts of one prompt are alike
    assert num_resumes > 4 * NUM_REQUESTS if condition[2] else num_resumes == 0
