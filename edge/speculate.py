"""The round loop of the rejection family: draft a block, have it verified, go on from what stands.

Knows a drafter and a link; knows nothing of tokens' text, of ONNX or of gRPC.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Protocol

from cactus_core.block import Block, empty_block
from cactus_core.session import Decision, Request
from edge.drafting.drafter import Drafter
from edge.rounds import Origin, Round, tokens_of
from edge.tuning.plan import RowsPlan


class Exchange(Protocol):
    """What the loop needs of a link."""

    async def exchange(self, block: Block, round_number: int) -> Decision: ...


class Decisions(Protocol):
    """What plain decoding needs of a link."""

    async def next_decision(self) -> Decision: ...


async def speculate(
    link: Exchange, request: Request, drafter: Drafter, plan: Callable[[], RowsPlan], on_failure: Callable[[Exception], None]
) -> AsyncGenerator[Round, None]:
    """Rounds of as many drafted tokens as `plan` says each time, until the text ends, the plan is to draft no more, or the drafter
    fails, which `on_failure` is told. A round is yielded as soon as it is decided.
    """
    text = [*request.prompt, *request.committed]
    last = len(request.prompt) + request.max_tokens
    opened, round_number = time.monotonic(), 0
    while True:
        started = time.monotonic()
        planned = plan()
        if not planned.num_rows:
            return
        # The target adds a token of its own to whatever stands, so the last one need not be drafted.
        room = min(planned.length, last - len(text) - 1, drafter.max_positions - len(text))
        block = empty_block(len(text))
        if room > 0:
            try:
                block = await _in_thread(
                    partial(
                        drafter.draft,
                        text,
                        num_rows=planned.num_rows,
                        length=room,
                        params=request.sampling,
                        seed=request.seed,
                        num_prompt=len(request.prompt),
                    )
                )
            except Exception as error:  # noqa: BLE001  # whatever ails a drafter, the text goes on
                on_failure(error)
                return
        drafted = time.monotonic()
        decision = await link.exchange(block, round_number)
        done = _round(block, decision, drafted - started, drafted, opened)
        text += [token.id for token in done.tokens]
        round_number += 1
        yield done
        if done.finish is not None:
            return


async def _in_thread(draft: Callable[[], Block]) -> Block:
    """Returns no sooner than the thread, even where it is cancelled: a drafter takes one caller at a time."""
    drafting = asyncio.ensure_future(asyncio.to_thread(draft))
    try:
        return await asyncio.shield(drafting)
    except asyncio.CancelledError:
        await asyncio.wait({drafting})
        drafting.exception()
        raise


async def decode_alone(link: Decisions, request: Request) -> AsyncGenerator[Round, None]:
    """The cloud's own decoding, a token a round, as it comes."""
    base = len(request.prompt) + len(request.committed)
    opened = time.monotonic()
    while True:
        started = time.monotonic()
        done = _round(empty_block(base), await link.next_decision(), 0.0, started, opened)
        base += len(done.tokens)
        yield done
        if done.finish is not None:
            return


def _round(block: Block, decision: Decision, draft_s: float, sent: float, opened: float) -> Round:
    accepted = block.tokens[decision.row, : decision.num_accepted].tolist() if decision.num_accepted else []
    whole = Origin.BONUS if block.length else Origin.DECODED
    final_origin = whole if decision.num_accepted == block.length else Origin.CORRECTED
    now = time.monotonic()
    return Round(
        tokens=tokens_of(decision, accepted, final_origin),
        num_drafted=block.num_rows * block.length,
        length=block.length,
        num_accepted=decision.num_accepted,
        draft_s=draft_s,
        wait_s=now - sent,
        queue_s=decision.queue_s,
        verify_s=decision.verify_s,
        at_s=now - opened,
        finish=decision.finish,
    )
