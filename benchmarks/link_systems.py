"""Ways to get a text from a verifier at the other end of a link: with drafts, without, and as it is done naively.

Knows clients and one request at a time; knows nothing of profiles or of what is compared with what.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.prompts import PROMPTS
from cactus_core.acceptance import Acceptance
from cactus_core.block import Block
from cactus_core.demo_pair import demo_model
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cactus_core.session import Decision, Request
from cactus_core.wire import codec
from cactus_core.wire.v1 import speculation_pb2 as pb
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.drafting.drafter import Drafter
from edge.link import Endpoint, Link
from edge.rounds import Round
from edge.speculate import speculate
from edge.tokenizer import Tokenizer
from edge.tuning.plan import RowsPlan, TreePlan

_TIMES_TWO_BYTES = 2  # float16


@dataclass(slots=True)
class Sample:
    """One request: seconds to its first token and to its last, from one decision to the next per token, and the verifier's part."""

    num_tokens: int = 0
    wall_s: float = 0.0
    ttft_s: float = 0.0
    per_token_s: list[float] = field(default_factory=list)
    num_rounds: int = 0
    num_drafted: int = 0
    verify_s: float = 0.0
    decided: list[tuple[float, int]] = field(default_factory=list)  # when, and how many tokens there were then

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.wall_s

    def pace_after(self, num_tokens: int, num_rounds: int) -> float:
        """Tokens a second from the `num_rounds`-th decision on after there were `num_tokens`."""
        later = [decided for decided in self.decided if decided[1] >= num_tokens][num_rounds:]
        return (later[-1][1] - later[0][1]) / (later[-1][0] - later[0][0])

    def count(self, done: Round, since_open_s: float) -> None:
        if not self.num_rounds:
            self.ttft_s = since_open_s
        else:
            self.per_token_s += [(since_open_s - self.wall_s) / len(done.tokens)] * len(done.tokens)
        self.num_tokens += len(done.tokens)
        self.num_rounds += 1
        self.num_drafted += done.num_drafted
        self.verify_s += done.verify_s
        self.wall_s = since_open_s
        self.decided.append((since_open_s, self.num_tokens))


@dataclass(frozen=True, slots=True)
class Question:
    """Which text: the `number`-th prompt, of which so many tokens are wanted."""

    number: int
    num_tokens: int
    temperature: float


def tokenizer() -> Tokenizer:
    return Tokenizer.load(Path(demo_model("draft")))


class ThroughClient:
    """A client of one endpoint, and its tuner, which learns from one request to the next; `drafter` None is the cloud alone."""

    def __init__(
        self,
        drafter: Drafter | None,
        *,
        tree: TreePlan | None = None,
        rows: RowsPlan | None = None,
        acceptance: Acceptance | None = None,
        max_bytes_up: float = math.inf,
    ) -> None:
        self._drafter, self._drafting = drafter, Drafting(tree=tree, rows=rows, max_bytes_up=max_bytes_up)
        # The cloud alone decodes by the rule that costs it the least.
        self._acceptance = acceptance or (Acceptance() if drafter is None else Acceptance(COUPLED))
        self._client: Completer | None = None

    async def sample(self, endpoint: Endpoint, asked: Question, at_token: tuple[int, Callable[[], None]] | None = None) -> Sample:
        """`at_token` is what to do once so many tokens have come."""
        if self._client is None:
            self._client = Completer(endpoint, tokenizer(), self._drafter, self._drafting)
        completion, taken, started = Completion(PROMPTS[asked.number % len(PROMPTS)]), Sample(), time.monotonic()
        stream = self._client.generate(
            completion,
            max_tokens=asked.num_tokens,
            sampling=SamplingParams(asked.temperature),
            seed=asked.number,
            acceptance=self._acceptance,
        )
        num_seen = 0
        async with aclosing(stream) as pieces:
            async for _ in pieces:
                if len(completion.rounds) > num_seen:
                    num_seen += 1
                    taken.count(completion.rounds[-1], time.monotonic() - started)
                if at_token is not None and taken.num_tokens >= at_token[0]:
                    at_token[1]()
                    at_token = None
        return taken


class Naive:
    """Stop and wait: one path of L tokens a round, token-level speculative sampling, with dense float16 laws: their bytes are sent as
    padding (*emulated*), since this system has no use for them, and the laws that decide are on 1,024 of the 4,096 tokens.
    """

    def __init__(self, drafter: Drafter, length: int) -> None:
        self._drafter, self._length = drafter, length

    async def sample(self, endpoint: Endpoint, asked: Question) -> Sample:
        tokens = tokenizer()
        request = Request(
            prompt=tokens.encode(PROMPTS[asked.number % len(PROMPTS)]),
            max_tokens=asked.num_tokens,
            seed=asked.number,
            fingerprint=tokens.fingerprint,
            sampling=SamplingParams(asked.temperature),
            acceptance=Acceptance("first+token"),
        )
        taken, started = Sample(), time.monotonic()
        async with endpoint.open(request) as link:
            dense = _DenseLink(link, self._drafter.vocab_size)
            async with aclosing(speculate(dense, request, self._drafter, lambda: RowsPlan(1, self._length), _refuse)) as rounds:
                async for done in rounds:
                    taken.count(done, time.monotonic() - started)
        return taken


class _DenseLink:
    """A link over which each drafted token brings a law of V numbers of two bytes."""

    def __init__(self, link: Link, vocab_size: int) -> None:
        self._link, self._vocab_size = link, vocab_size

    async def exchange(self, block: Block, round_number: int) -> Decision:
        padding = np.random.default_rng(round_number).bytes(block.length * self._vocab_size * _TIMES_TWO_BYTES)
        await self._link.send(pb.EdgeFrame(draft_block=codec.pack_block(block, round_number), padding=padding))
        return await self._link.next_decision()


def _refuse(error: Exception) -> None:
    raise error
