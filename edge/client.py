"""One request from prompt to text, over as many streams as the link makes of it.

Knows a drafter, an endpoint and tuners; knows nothing of how drafts are made, sent or decided.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace

from cactus_core.acceptance import Acceptance
from cactus_core.errors import Mismatch, Unavailable
from cactus_core.sampling import SamplingParams
from cactus_core.session import Limits, Request, Served
from edge.backoff import Backoff
from edge.drafter import Drafter
from edge.hinting import speculate_along
from edge.link import Endpoint, Link
from edge.plan import RowsPlan, TreePlan
from edge.rounds import Round, Token
from edge.rows_tuner import RowsTuner
from edge.speculate import decode_alone, speculate
from edge.summary import Summary
from edge.tokenizer import Tokenizer
from edge.tree_tuner import Objective, TreeTuner

_log = logging.getLogger(__name__)
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
        rounds = [{k: v for k, v in asdict(done).items() if k != "tokens"} | {"num_tokens": len(done.tokens)} for done in self.rounds]
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


@dataclass(frozen=True, slots=True)
class Drafting:
    """How a client is to draft. A plan of the request's own family is kept to; without one the tuner chooses, for what `objective` asks.

    A lost link is tried again for `patience_s` seconds before the request ends with `Unavailable`. With `ahead`, a drafter that can does
    not idle while a decision is awaited; most of what it then does is of no use, so that whoever saves energy does without.
    """

    rows: RowsPlan | None = None
    tree: TreePlan | None = None
    objective: Objective = Objective.LATENCY
    patience_s: float = 30.0
    ahead: bool = True


class Client:
    """Completes texts at an endpoint, drafting with `drafter`; without one the cloud decodes alone.

    What its tuners learn of endpoint, link and drafter outlives a request. One request at a time drafts with one drafter.
    """

    def __init__(self, endpoint: Endpoint, tokenizer: Tokenizer, drafter: Drafter | None, drafting: Drafting | None = None) -> None:
        self._endpoint = endpoint
        self._tokenizer = tokenizer
        self._drafter = drafter
        self._drafting = drafting or Drafting()
        self._served: Served | None = None
        self._trees = TreeTuner(self._drafting.objective, fixed=self._drafting.tree)
        self._rows: RowsTuner | None = None

    async def generate(
        self,
        completion: Completion,
        *,
        max_tokens: int,
        sampling: SamplingParams,
        seed: int,
        acceptance: Acceptance = _DEFAULT,
        stop_ids: tuple[int, ...] = (),
        num_top_logprobs: int = 0,
    ) -> AsyncGenerator[Piece, None]:
        """Yields each token as it is decided, and fills `completion` (mutated).

        A link that is lost is opened again, and the text goes on where it stood. Raises `Mismatch` for another tokenizer than the
        target's, `InvalidInput` or `LimitExceeded` for a request that cannot be served, `Unavailable` when the endpoint cannot be reached.
        """
        request = Request(
            prompt=self._tokenizer.encode(completion.prompt),
            max_tokens=max_tokens,
            seed=seed,
            fingerprint=self._tokenizer.fingerprint,
            sampling=sampling,
            acceptance=acceptance,
            decode_alone=self._drafter is None or acceptance.is_coupled,
            stop_ids=stop_ids,
            num_top_logprobs=num_top_logprobs,
        )
        limits = (await self._checked()).limits
        completion.acceptance = acceptance
        completion.summary.budget = None if math.isinf(acceptance.budget) else acceptance.budget
        text_of = self._tokenizer.stream()
        started = time.monotonic()
        async with aclosing(self._rounds(request, limits, completion.summary)) as rounds:
            async for done in rounds:
                completion.rounds.append(done)
                completion.summary.add(done, time.monotonic() - started)
                for token in done.tokens:
                    piece = Piece(token, text_of(token.id))
                    completion.tokens.append(token)
                    completion.text += piece.text
                    yield piece
        completion.summary.speculation = self.explain(acceptance)

    def explain(self, acceptance: Acceptance = _DEFAULT) -> dict[str, object]:
        """What the tuner of the request's family believes and chose; nothing where nobody drafts."""
        if self._drafter is None:
            return {}
        tuner = self._trees if acceptance.is_coupled else self._rows
        return {} if tuner is None else tuner.explain()

    async def _checked(self) -> Served:
        """What the endpoint serves, asked once."""
        if self._served is None:
            served = await self._endpoint.describe()
            if self._tokenizer.fingerprint != served.fingerprint:
                raise Mismatch(
                    f"the draft's tokenizer is not that of {served.model!r} at {self._endpoint.address}; use a draft made for that target"
                )
            self._served = served
        return self._served

    async def _rounds(self, request: Request, limits: Limits, summary: Summary) -> AsyncGenerator[Round, None]:
        """Until the text ends, over one stream after the other."""
        backoff, opened = Backoff(self._drafting.patience_s), time.monotonic()
        while True:
            stream_opened = time.monotonic() - opened
            try:
                async with (
                    self._endpoint.open(request) as link,
                    aclosing(self._family(link, request, limits, summary)) as rounds,
                ):
                    async for done in rounds:
                        backoff.succeeded()
                        request = _after(request, done)
                        yield replace(done, at_s=stream_opened + done.at_s)
                        if done.finish is not None:
                            return
                request = replace(request, decode_alone=True)  # the plan is to draft no more
            except Unavailable as error:
                wait_s = backoff.failed()
                if wait_s is None or not summary.num_tokens:  # what never worked is not waited for
                    raise
                _log.info("%s: trying again in %.2f s", error, wait_s)
                summary.num_resumes += 1
                await asyncio.sleep(wait_s)

    def _family(self, link: Link, request: Request, limits: Limits, summary: Summary) -> AsyncGenerator[Round, None]:
        def failed(error: Exception) -> None:
            summary.drafter_error = str(error) or type(error).__name__

        if self._drafter is None or summary.drafter_error:
            return decode_alone(link, request)
        if request.acceptance.is_coupled:
            ahead = self._drafting.ahead and self._drafting.objective is not Objective.ENERGY
            return speculate_along(link, request, self._drafter, self._trees, limits, failed, ahead=ahead)
        if request.decode_alone:
            return decode_alone(link, request)
        return self._in_rounds(link, request, self._drafter, limits, failed)

    async def _in_rounds(
        self, link: Link, request: Request, drafter: Drafter, limits: Limits, on_failure: Callable[[Exception], None]
    ) -> AsyncGenerator[Round, None]:
        """The rejection family's rounds, within what the endpoint takes."""
        if self._rows is None:
            self._rows = RowsTuner(limits, drafter.support_size, fixed=self._drafting.rows)
        tuner = self._rows
        async with aclosing(speculate(link, request, drafter, tuner.next, on_failure)) as rounds:
            async for done in rounds:
                tuner.saw(done)
                yield done


def _after(request: Request, done: Round) -> Request:
    """What is still asked for once a round's tokens have come: where its text goes on should the stream be cut, and what may be spent."""
    if done.finish is not None:
        return request
    acceptance = request.acceptance
    if acceptance.budget < math.inf:
        spent = sum(token.divergence for token in done.tokens)
        acceptance = replace(acceptance, budget=max(acceptance.budget - spent, 0.0))
    return replace(request, committed=(*request.committed, *(token.id for token in done.tokens)), acceptance=acceptance)
