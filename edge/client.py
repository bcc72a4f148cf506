"""One request from prompt to text."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field

from cactus_core.acceptance import Acceptance
from cactus_core.errors import Mismatch, Unsupported
from cactus_core.sampling import SamplingParams
from cactus_core.session import Request
from edge.drafter import Drafter
from edge.link import Endpoint
from edge.speculate import Round, Token, decode_alone, speculate
from edge.summary import Summary
from edge.tokenizer import Tokenizer

_DEFAULT = Acceptance()


@dataclass(frozen=True, slots=True)
class Piece:
    """A token and the text it completes, which is empty while a character is still open."""

    token: Token
    text: str


@dataclass(slots=True)
class Completion:
    """A text as it grows, decided as `acceptance` says; complete once `Client.generate` has yielded its last piece."""

    prompt: str
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)
    acceptance: Acceptance = _DEFAULT

    def as_record(self) -> dict[str, object]:
        """For a JSON file: the text, each token with its origin and the ledger's entry, each round's sizes and times, and the sums."""
        rounds = [{k: v for k, v in asdict(done).items() if k != "tokens"} for done in self.rounds]
        return {
            "prompt": self.prompt,
            "text": self.text,
            "acceptance": {**_finite(asdict(self.acceptance)), "label": self.acceptance.label},
            "summary": _finite(asdict(self.summary)),
            "tokens": [_finite(_without_nothing(asdict(token))) for token in self.tokens],
            "rounds": rounds,
        }


def _without_nothing(token: dict[str, object]) -> dict[str, object]:
    """A token's likeliest rivals stand in its record where they were asked for."""
    return {name: value for name, value in token.items() if name != "likeliest" or value}


def _finite(record: Mapping[str, object]) -> dict[str, object]:
    """JSON has no infinity: null."""
    return {name: None if isinstance(value, float) and math.isinf(value) else value for name, value in record.items()}


class Client:
    """Completes texts at an endpoint, drafting with `drafter`; without one the cloud decodes alone."""

    def __init__(self, endpoint: Endpoint, tokenizer: Tokenizer, drafter: Drafter | None) -> None:
        self._endpoint = endpoint
        self._tokenizer = tokenizer
        self._drafter = drafter

    async def generate(
        self,
        completion: Completion,
        *,
        max_tokens: int,
        sampling: SamplingParams,
        seed: int,
        num_rows: int,
        length: int,
        acceptance: Acceptance = _DEFAULT,
        stop_ids: tuple[int, ...] = (),
        num_top_logprobs: int = 0,
    ) -> AsyncIterator[Piece]:
        """Yields each token as its round is decided, and fills `completion` (mutated).

        Raises `Mismatch` for another tokenizer than the target's, `InvalidInput` or `LimitExceeded` for a request that cannot be served,
        `Unsupported` for the coupled rule with a drafter, `Unavailable` when the endpoint cannot be reached.
        """
        if acceptance.is_coupled and self._drafter is not None:
            raise Unsupported("this edge drafts no coupled trees yet: choose another rule, or let the cloud decode alone (--plain)")
        request = Request(
            prompt=self._tokenizer.encode(completion.prompt),
            max_tokens=max_tokens,
            seed=seed,
            fingerprint=self._tokenizer.fingerprint,
            sampling=sampling,
            acceptance=acceptance,
            decode_alone=self._drafter is None,
            stop_ids=stop_ids,
            num_top_logprobs=num_top_logprobs,
        )
        served = await self._endpoint.describe()
        if self._tokenizer.fingerprint != served.fingerprint:
            raise Mismatch(
                f"the draft's tokenizer is not that of {served.model!r} at {self._endpoint.address}; use a draft made for that target"
            )
        completion.acceptance = acceptance
        completion.summary.budget = None if math.isinf(acceptance.budget) else acceptance.budget
        text_of = self._tokenizer.stream()
        started = time.monotonic()
        async with self._endpoint.open(request) as link:
            if self._drafter is None:
                rounds = decode_alone(link, request)
            else:
                num_rows = min(num_rows, served.limits.max_rows)
                most = served.limits.max_law_tokens // (max(num_rows, 1) * self._drafter.support_size)
                length = min(length, served.limits.max_length, most)
                rounds = speculate(link, request, self._drafter, num_rows, length)
            async for done in rounds:
                completion.rounds.append(done)
                completion.summary.add(done, time.monotonic() - started)
                for token in done.tokens:
                    piece = Piece(token, text_of(token.id))
                    completion.tokens.append(token)
                    completion.text += piece.text
                    yield piece
