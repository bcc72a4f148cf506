"""One request from prompt to text, over as many streams as the link makes of it.

Knows a drafter, an endpoint and tuners; knows nothing of how drafts are made, sent or decided.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from cactus_core.acceptance import Acceptance
from cactus_core.errors import Damaged, LimitExceeded, Mismatch, Unavailable
from cactus_core.request_log import facts
from cactus_core.sampling import SamplingParams
from cactus_core.session import Limits, Request, Served
from edge.alone import DraftAlone
from edge.backoff import Backoff
from edge.completion import Completion, Piece, Retraction, Writing
from edge.drafting.drafter import Drafter
from edge.hinting import speculate_along
from edge.link import Endpoint, Link
from edge.rounds import Origin, Round
from edge.speculate import decode_alone, speculate
from edge.summary import Summary
from edge.tokenizer import Tokenizer
from edge.tracing import Tracing, untraced
from edge.tuning.forecasting import Objective
from edge.tuning.plan import RowsPlan, TreePlan
from edge.tuning.rows_tuner import RowsTuner
from edge.tuning.tree_tuner import TreeTuner

_log = logging.getLogger(__name__)
_DEFAULT = Acceptance()


@dataclass(frozen=True, slots=True)
class Drafting:
    """How texts are to be drafted. A plan of the request's own family is kept to; without one the tuner chooses, for what `objective` asks.

    No more than `max_bytes_up` a token are sent for drafts, on average over some hundreds: for links that are paid for by the byte; of the
    coupled family only. A lost link is tried again for `patience_s` seconds before the request ends with `Unavailable`.
    `goes_on_alone`: meanwhile the draft writes the text on, each token `unverified` until the cloud is back; of the coupled family only.
    With `ahead`, a drafter that can does not idle while a decision is awaited. It is off: over every link that was tried it gained
    nothing (docs/link.md).
    """

    rows: RowsPlan | None = None
    tree: TreePlan | None = None
    objective: Objective = Objective.LATENCY
    max_bytes_up: float = math.inf
    patience_s: float = 30.0
    goes_on_alone: bool = False
    ahead: bool = False


class Completer:
    """Completes texts at an endpoint, drafting with `drafter`; without one the cloud decodes alone.

    What its tuners learn of endpoint, link and drafter outlives a request. One request at a time drafts with one drafter.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tokenizer: Tokenizer,
        drafter: Drafter | None,
        drafting: Drafting | None = None,
        tracing: Tracing = untraced,
    ) -> None:
        self._endpoint, self._traced = endpoint, tracing
        self._tokenizer = tokenizer
        self._drafter = drafter
        self._drafting = drafting or Drafting()
        self._served: Served | None = None
        self._trees = TreeTuner(self._drafting.objective, fixed=self._drafting.tree, max_bytes_up=self._drafting.max_bytes_up)
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
        prompt_ids: tuple[int, ...] | None = None,
    ) -> AsyncGenerator[Piece | Retraction, None]:
        """Yields each token as it is decided, and fills `completion` (mutated).

        A link that is lost is opened again, and the text goes on where it stood. Where the draft goes on alone meanwhile, its
        tokens are yielded as unverified; what of them the target then writes too is not yielded again, and the rest is taken back
        by a `Retraction`. `prompt_ids` stand in the place of the completion's prompt where the caller has its tokens. Raises
        `Mismatch` for another tokenizer than the target's, `InvalidInput` or `LimitExceeded` for a request that cannot be served,
        `Unavailable` when the endpoint cannot be reached.
        """
        request = Request(
            prompt=self._tokenizer.encode(completion.prompt) if prompt_ids is None else prompt_ids,
            max_tokens=max_tokens,
            seed=seed,
            fingerprint=self._tokenizer.fingerprint,
            sampling=sampling,
            acceptance=acceptance,
            decode_alone=self._drafter is None or acceptance.is_coupled,
            stop_ids=stop_ids,
            num_top_logprobs=num_top_logprobs,
        )
        limits = (await self.served()).limits
        completion.acceptance = acceptance
        completion.summary.budget = None if math.isinf(acceptance.budget) else acceptance.budget
        writing = Writing(completion, self._tokenizer)
        started = time.monotonic()
        with self._traced(completion) as round_ended:
            async with aclosing(self._rounds(request, limits, completion)) as rounds:
                async for done in rounds:
                    if done.tokens and done.tokens[0].origin is not Origin.UNVERIFIED:
                        completion.rounds.append(done)
                        completion.summary.add(done, time.monotonic() - started)
                        round_ended(done)
                    for token in done.tokens:
                        for piece in writing.write(token):
                            yield piece
        completion.summary.speculation = self.explain(acceptance)

    def explain(self, acceptance: Acceptance = _DEFAULT) -> dict[str, object]:
        """What the tuner of the request's family believes and chose; nothing where nobody drafts."""
        if self._drafter is None:
            return {}
        tuner = self._trees if acceptance.is_coupled else self._rows
        return {} if tuner is None else tuner.explain()

    async def served(self) -> Served:
        """What the endpoint serves, asked once. Raises `Mismatch` for another tokenizer than the target's, `Unavailable` as `generate`."""
        if self._served is None:
            served = await self._endpoint.describe()
            if self._tokenizer.fingerprint != served.fingerprint:
                raise Mismatch(
                    f"the draft's tokenizer is not that of {served.model!r} at {self._endpoint.address}; use a draft made for that target"
                )
            self._served = served
        return self._served

    async def _rounds(self, request: Request, limits: Limits, completion: Completion) -> AsyncGenerator[Round, None]:
        """Until the text ends, over one stream after the other."""
        summary = completion.summary
        backoff, opened = Backoff(self._drafting.patience_s), time.monotonic()
        alone, is_lost = None, False
        committed: list[int] = []
        spent = 0.0
        if self._drafter is not None and self._drafting.goes_on_alone and request.acceptance.is_coupled:
            alone = DraftAlone(self._drafter)
        while True:
            stream_opened = time.monotonic() - opened
            asked = _going_on(request, committed, spent)
            try:
                async with (
                    self._endpoint.open(asked, completion.request_id) as link,
                    aclosing(self._family(link, asked, limits, summary)) as rounds,
                ):
                    bytes_before = summary.num_bytes_up, summary.num_bytes_down
                    async for done in rounds:
                        backoff.succeeded()
                        summary.num_bytes_up = bytes_before[0] + link.num_bytes_up
                        summary.num_bytes_down = bytes_before[1] + link.num_bytes_down
                        summary.num_resumes += is_lost
                        is_lost = False
                        committed += [token.id for token in done.tokens]
                        spent += sum(token.divergence for token in done.tokens)
                        if alone is not None and not all(alone.meets(token.id) for token in done.tokens):
                            alone.unverified.clear()
                        yield replace(done, at_s=stream_opened + done.at_s)
                        if done.finish is not None:
                            return
                request = replace(request, decode_alone=True)  # the plan is to draft no more
            except (Damaged, Unavailable, LimitExceeded) as error:
                asked_s = error.retry_after_s if isinstance(error, LimitExceeded) else None
                if isinstance(error, LimitExceeded) and asked_s is None:  # waiting would not help
                    raise
                wait_s = backoff.failed(asked_s or 0.0)
                if wait_s is None:
                    raise
                _log.info("%s: trying again in %.2f s", error, wait_s, extra=facts(request=completion.request_id))
                is_lost = True
                async with aclosing(
                    self._meanwhile(_going_on(request, committed, spent), wait_s, alone, time.monotonic() - opened)
                ) as written:
                    async for unverified in written:
                        yield unverified

    async def _meanwhile(self, request: Request, wait_s: float, alone: DraftAlone | None, at_s: float) -> AsyncGenerator[Round, None]:
        """Until the link is tried again: what the draft writes, where it may."""
        until = time.monotonic() + wait_s
        while alone is not None and time.monotonic() < until:
            started = time.monotonic()
            tokens = await asyncio.to_thread(alone.write, request)
            if not tokens:
                break
            took = time.monotonic() - started
            at_s += took
            yield Round(tuple(tokens), 0, 0, 0, took, 0.0, 0.0, 0.0, at_s, None)
        await asyncio.sleep(max(until - time.monotonic(), 0.0))

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


def _going_on(request: Request, committed: Sequence[int], spent: float) -> Request:
    """What is still asked for of `request` once the tokens `committed` have come, for `spent` nats."""
    acceptance = request.acceptance
    if acceptance.budget < math.inf:
        acceptance = replace(acceptance, budget=max(acceptance.budget - spent, 0.0))
    return replace(request, committed=tuple(committed), acceptance=acceptance)
