"""The stream of the coupled family: the cloud decodes, the edge guesses what comes next.

The text does not depend on the guesses, so nothing here waits for anything but the text: decisions are passed on as they come, and
trees are drafted beside them, from wherever the text then ends, and sent while they may still be of use. The tuner says how large, and
whether the cloud is to wait for them. While the drafter has no tree to draft it thinks ahead, if it can.
Knows a drafter, a link and a tuner; knows nothing of tokens' text, of ONNX or of gRPC.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np

from cactus_core.coupled import CoupledTree, empty_tree, rerooted
from cactus_core.session import Decision, Hint, Limits, Request
from edge.drafting.drafter import Drafter, ThinksAhead
from edge.rounds import Origin, Round, tokens_of
from edge.tuning.foretold import Foretold
from edge.tuning.tree_tuner import PROBED, TreeTuner

# Nodes thought of ahead, for each of the tree's. A quiet core runs so many of the demo draft in some 60 ms.
_AHEAD = 8
# A verifier that is nearer leaves no time to think in, and may want the same cores: on one machine of two, thinking doubles a text's time.
_NEAR_S = 0.005


_Drafted: TypeAlias = tuple[CoupledTree, float]  # and the seconds that it took


class Stream(Protocol):
    """What the loop needs of a link."""

    async def send_hint(self, hint: Hint) -> int:
        """Returns the bytes of the frame."""

    async def next_decision(self) -> Decision: ...


async def speculate_along(
    link: Stream,
    request: Request,
    drafter: Drafter,
    tuner: TreeTuner,
    limits: Limits,
    on_failure: Callable[[Exception], None],
    *,
    ahead: bool = True,
) -> AsyncGenerator[Round, None]:
    """A round for each decision, until the text ends; yielded as soon as it comes. `tuner` learns (mutated). No tree exceeds `limits`.

    A drafter that fails is not asked again: `on_failure` is told, and the cloud decodes alone. With `ahead`, one that `ThinksAhead` does.
    """
    stream = _HintedStream(link, request, drafter, tuner, limits, on_failure, ahead=ahead)
    deciding: asyncio.Task[Decision] | None = None
    under_way: set[asyncio.Future[Any]]
    stream.start_drafting()
    try:
        while True:
            stream.start_thinking()
            if stream.drafting is None:
                tuner.reconsider()  # nobody waits for it now
            decision = None
            if deciding is None and stream.drafting is None:
                decision = await link.next_decision()  # nothing else can happen, and a task takes as long as the rest of this loop
            else:
                deciding = deciding or asyncio.create_task(_next_of(link))
                under_way = {deciding, stream.drafting} if stream.drafting else {deciding}
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                if deciding.done():
                    decision, deciding = deciding.result(), None
            if decision is not None:
                done = stream.decided(decision)
                if done.finish is not None:
                    yield done
                    return
                stream.start_drafting()  # before the caller does whatever it does with the tokens
                yield done
            await stream.send_drafted()
    finally:
        if deciding is not None:
            deciding.cancel()
            await asyncio.gather(deciding, return_exceptions=True)
        await stream.close()


async def _next_of(link: Stream) -> Decision:
    return await link.next_decision()


class _HintedStream:
    """What is known of one stream: the text so far, what was drafted for it and sent, and when."""

    def __init__(
        self,
        link: Stream,
        request: Request,
        drafter: Drafter,
        tuner: TreeTuner,
        limits: Limits,
        on_failure: Callable[[Exception], None],
        *,
        ahead: bool,
    ) -> None:
        self._link, self._request, self._drafter, self._tuner, self._on_failure = link, request, drafter, tuner, on_failure
        self._limits = limits
        self._text = [*request.prompt, *request.committed]
        self._opened = self._last_decided = self._last_sent = time.monotonic()
        self._is_first = True
        self._number = self._acknowledged = 0
        self._told_wait_s = 0.0
        self._sent: dict[int, tuple[CoupledTree, float]] = {0: (empty_tree(len(self._text)), self._opened)}
        self._followed: list[Foretold] = []
        self._unreported = (0, 0, 0.0)  # since the last decision: nodes that were sent, their depth, the seconds they took
        self._num_asked, self._num_read, self._is_probe = 0, 0, False  # of what is being drafted
        self._last_base = -1
        self.drafting: asyncio.Future[_Drafted] | None = None
        self._thinker, self._ahead = drafter if isinstance(drafter, ThinksAhead) else None, ahead
        self._thinking: asyncio.Task[None] | None = None
        self._is_over = threading.Event()  # of this thinking
        self._round_trip_s = 0.0  # the last one measured

    def start_drafting(self) -> None:
        """Unless a tree is being drafted, or was for where the text now ends, or none is wanted."""
        if self.drafting is not None or self._last_base == len(self._text):
            return
        self._is_probe = self._tuner.wants_probe
        planned = self._tuner.probe if self._is_probe else self._tuner.to_draft()
        # The target adds a token of its own to whatever comes true, so the last one need not be drafted.
        depth = min(planned.max_depth, self._room() - 1, self._drafter.max_positions - len(self._text), self._limits.max_length)
        num_nodes = min(planned.num_nodes, self._limits.max_rows * self._limits.max_length)
        if num_nodes and depth > 0:
            self._num_asked, self._num_read = num_nodes, len(self._text) - max(self._last_base, 0)
            self._last_base = len(self._text)
            self._is_over.set()
            s_per_token = self._tuner.s_per_token if planned.mode == "wait" else math.inf
            draft = partial(self._draft, list(self._text), num_nodes, depth, s_per_token)
            thinking, self._thinking = self._thinking, None
            # A thread takes it up now; a task would only once this one waits.
            if thinking is None or (thinking.done() and thinking.exception() is None):
                self.drafting = _in_thread(draft)
            else:
                self.drafting = asyncio.create_task(_after(thinking, draft))

    def _room(self) -> int:
        """How many tokens may still come."""
        return len(self._request.prompt) + self._request.max_tokens - len(self._text)

    def _draft(self, text: list[int], num_nodes: int, depth: int, s_per_token: float) -> _Drafted:
        """In a thread."""
        started, asked = time.monotonic(), self._request
        tree = self._drafter.draft_tree(
            text,
            num_nodes=num_nodes,
            max_depth=depth,
            params=asked.sampling,
            seed=asked.seed,
            num_prompt=len(asked.prompt),
            s_per_token=s_per_token,
        )
        return tree, time.monotonic() - started

    def start_thinking(self) -> None:
        """Ahead, once a tree was drafted for where the text now ends; until the next one is drafted."""
        is_free = self.drafting is None and self._thinking is None and self._last_base == len(self._text)
        planned = self._tuner.current
        if self._thinker is not None and is_free and planned.num_nodes and self._room() > 1:
            num_nodes = _AHEAD * planned.num_nodes if self._ahead and self._round_trip_s >= _NEAR_S else 0
            if num_nodes == 0 and planned.mode != "wait":
                return  # what takes no run gains next to nothing, but where the next tree is waited for
            self._is_over = threading.Event()
            thinking = asyncio.to_thread(self._thinker.think_ahead, num_nodes, self._is_over.is_set)
            self._thinking = asyncio.create_task(thinking)

    async def send_drafted(self) -> None:
        """Sends the tree that is ready, if one is: what of it follows the text by now. Lets the cloud go on where none will come."""
        if self.drafting is not None and self.drafting.done():
            drafting, self.drafting = self.drafting, None
            try:
                tree, draft_s = drafting.result()
            except Exception as error:  # noqa: BLE001  # whatever ails a drafter, the text goes on
                self._last_base = -1
                self._tuner.gave_up()
                self._on_failure(error)
            else:
                await self._send(tree, draft_s)
        self.start_drafting()
        if self._told_wait_s > 0.0 and self.drafting is None and self._last_base != len(self._text):
            await self._hint(empty_tree(len(self._text)), 0.0)

    async def _send(self, tree: CoupledTree, draft_s: float) -> None:
        foretold = Foretold(tree)
        since = self._text[tree.base :]
        foretold.follow(since)
        self._followed.append(foretold)
        # What the plan is by now: more may have been drafted, for the sake of learning.
        plan = PROBED if self._is_probe else self._tuner.current
        live = rerooted(_first(tree, plan.num_nodes), np.array(since, dtype=np.int64))
        # Without a first hint nothing is known of the round trip. Whoever waits goes on waiting when this tree came too late, for another
        # is drafted next; not when nobody is to wait any more, nor when nothing could be drafted for where the text ends.
        ends_a_wait = self._told_wait_s > 0.0 and (plan.wait_s == 0.0 or tree.base == len(self._text))
        if self._is_probe or len(live.tokens) or not self._number or ends_a_wait:
            self._tuner.sent(len(live.tokens), await self._hint(live, plan.wait_s))
            nodes, depth, seconds = self._unreported
            self._unreported = nodes + len(live.tokens), max(depth, int(live.depths.max(initial=0))), seconds + draft_s
        self._tuner.drafted(self._num_asked, draft_s, num_read=self._num_read)

    async def _hint(self, tree: CoupledTree, wait_s: float) -> int:
        self._number += 1
        self._last_sent = time.monotonic()
        self._sent[self._number], self._told_wait_s = (tree, self._last_sent), wait_s
        return await self._link.send_hint(Hint(self._number, tree, wait_s))

    def decided(self, decision: Decision) -> Round:
        """Takes in the next of the text, and what it tells of link, cloud and drafts."""
        now = time.monotonic()
        # A verifier that took the text over from another has not heard of the first trees.
        tree, sent = self._sent[max(decision.round, self._acknowledged)]
        if decision.round > self._acknowledged:
            self._round_trip_s = now - sent - decision.hint_age_s
            self._tuner.came_back(self._round_trip_s)
            self._acknowledged = decision.round
            self._sent = {number: of for number, of in self._sent.items() if number >= decision.round}
        in_force = tree
        if len(tree.tokens):
            in_force = rerooted(tree, np.array(self._text[tree.base : decision.base], dtype=np.int64))
        if not len(in_force.tokens):
            final_origin = Origin.DECODED
        else:
            beyond = rerooted(in_force, np.array(decision.accepted, dtype=np.int64))
            final_origin = Origin.CORRECTED if len(beyond.tokens) else Origin.BONUS
        tokens = tokens_of(decision, decision.accepted, final_origin)
        ids = [token.id for token in tokens]
        self._text += ids
        for foretold in self._followed:
            foretold.follow(ids)
        is_over = decision.finish is not None
        for foretold in self._followed:
            if foretold.is_over or is_over:
                self._tuner.came_true(foretold)
        self._followed = [foretold for foretold in self._followed if not foretold.is_over]
        since_last = 0.0 if self._is_first else now - self._last_decided
        self._tuner.decided(len(in_force.tokens), len(ids), decision.verify_s, since_last)
        nodes, depth, draft_s = self._unreported
        done = Round(
            tokens=tokens,
            num_drafted=nodes,
            length=depth,
            num_accepted=decision.num_accepted,
            draft_s=draft_s,
            wait_s=now - max(self._last_sent, self._last_decided),
            queue_s=decision.queue_s,
            verify_s=decision.verify_s,
            at_s=now - self._opened,
            finish=decision.finish,
        )
        self._last_decided, self._is_first, self._unreported = now, False, (0, 0, 0.0)
        return done

    async def close(self) -> None:
        """A drafter takes one caller at a time: the next is not to meet this one."""
        self._is_over.set()
        for under_way in (self._thinking, self.drafting):
            if under_way is not None:
                await asyncio.wait({under_way})
                if not under_way.cancelled():
                    under_way.exception()


async def _after(thinking: asyncio.Task[None], draft: Callable[[], _Drafted]) -> _Drafted:
    started = time.monotonic()
    await thinking  # it is over soon, and the drafter takes one caller at a time
    tree, _ = await _in_thread(draft)
    return tree, time.monotonic() - started


def _in_thread(call: Callable[[], _Drafted]) -> asyncio.Future[_Drafted]:
    return asyncio.get_running_loop().run_in_executor(None, copy_context().run, call)


def _first(tree: CoupledTree, num_nodes: int) -> CoupledTree:
    """The best smaller tree: parents come before their children."""
    return CoupledTree(tree.base, tree.tokens[:num_nodes], tree.parents[:num_nodes])
