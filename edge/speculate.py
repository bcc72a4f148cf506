"""The round loop: draft a block, have it verified, go on from what stands.

Knows a drafter and a link; knows nothing of tokens' text, of ONNX or of gRPC.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cactus_core.block import Block, empty_block
from cactus_core.session import Decision, Finish, Likeliest, Request
from edge.drafter import Drafter


class Origin(StrEnum):
    ACCEPTED = "accepted"  # drafted here, and stands
    CORRECTED = "corrected"  # the target's own, in the place of a draft that does not
    BONUS = "bonus"  # the target's own, after a block that stands whole
    DECODED = "decoded"  # the target's own, with nothing drafted


@dataclass(frozen=True, slots=True)
class Token:
    """`logprob` is natural; `divergence` is what the token cost of the budget, in nats: 0 where nothing was relaxed. `likeliest` are
    the likeliest tokens in its place, where the request asks for them.
    """

    id: int
    origin: Origin
    logprob: float
    divergence: float
    likeliest: Likeliest = ()


@dataclass(frozen=True, slots=True)
class Round:
    """One round's tokens and costs: `num_rows` paths of `length` were drafted in `draft_s`; the decision came `wait_s` later."""

    tokens: tuple[Token, ...]
    num_rows: int
    length: int
    num_accepted: int
    draft_s: float
    wait_s: float
    queue_s: float
    verify_s: float
    finish: Finish | None


class Exchange(Protocol):
    """What the loop needs of a link."""

    async def exchange(self, block: Block, round_number: int) -> Decision: ...

    async def next_decision(self) -> Decision: ...


async def speculate(link: Exchange, request: Request, drafter: Drafter, num_rows: int, length: int) -> AsyncIterator[Round]:
    """Rounds of at most `num_rows` x `length` drafted tokens until the text ends. A round is yielded as soon as it is decided."""
    text = list(request.prompt)
    last = len(text) + request.max_tokens
    round_number = 0
    while True:
        started = time.monotonic()
        # The target adds a token of its own to whatever stands, so the last one need not be drafted.
        room = min(length, last - len(text) - 1, drafter.max_positions - len(text))
        block = empty_block(len(text))
        if room > 0 and num_rows > 0:
            block = await asyncio.to_thread(
                drafter.draft,
                text,
                num_rows=num_rows,
                length=room,
                params=request.sampling,
                seed=request.seed,
                num_prompt=len(request.prompt),
            )
        drafted = time.monotonic()
        decision = await link.exchange(block, round_number)
        done = _round(block, decision, drafted - started, time.monotonic() - drafted)
        text += [token.id for token in done.tokens]
        round_number += 1
        yield done
        if done.finish is not None:
            return


async def decode_alone(link: Exchange, request: Request) -> AsyncIterator[Round]:
    """The cloud's own decoding, a token a round, as it comes."""
    base = len(request.prompt)
    while True:
        started = time.monotonic()
        decision = await link.next_decision()
        done = _round(empty_block(base), decision, 0.0, time.monotonic() - started)
        base += len(done.tokens)
        yield done
        if done.finish is not None:
            return


def _round(block: Block, decision: Decision, draft_s: float, wait_s: float) -> Round:
    ids = block.tokens[decision.row, : decision.num_accepted].tolist() if decision.num_accepted else []
    origins = [Origin.ACCEPTED] * len(ids)
    if decision.final is not None:
        ids.append(decision.final)
        if block.length == 0:
            origins.append(Origin.DECODED)
        else:
            origins.append(Origin.BONUS if decision.num_accepted == block.length else Origin.CORRECTED)
    likeliest = decision.top_logprobs or ((),) * len(ids)
    columns = zip(ids, origins, decision.logprobs, decision.divergence, likeliest, strict=True)
    return Round(
        tokens=tuple(Token(*of_token) for of_token in columns),
        num_rows=block.num_rows,
        length=block.length,
        num_accepted=decision.num_accepted,
        draft_s=draft_s,
        wait_s=wait_s,
        queue_s=decision.queue_s,
        verify_s=decision.verify_s,
        finish=decision.finish,
    )
