"""One edge's stream, passed on to a replica and back; when that dies, to another, which goes on where the text stood.

Messages are passed as the bytes that they came as, and sealed anew: each replica counts its frames from the first. What is sent waits
until the other side takes it, both ways, so that a slow reader slows down only whom it listens to. Knows calls and their statuses;
knows nothing of models, and of decisions only that they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from cactus_core.errors import Damaged, Unavailable
from cactus_core.wire.frames import Inbox, Outbox
from cluster.peek import CLOSE, decision_in
from cluster.replicas import Call, Replicas
from cluster.resumption import Resumption
from cluster.router import Opening, Router
from cluster.traffic import Traffic
from edge.link import CALL_ENDED

_OPEN_TIMEOUT_S = 10.0  # a replica answers Open before it reads the prompt
_PATIENCE_S = 10.0  # how long a text that has begun waits for a replica
_MOST_TORN = 3
_MOST_REPLICAS = 16  # a text that kills so many is no accident
_RETRY_S = 0.1
_END_S = 5.0  # after that a stream whose edge has gone is torn
_LOST = "the verifier behind this gateway was lost in the middle of the request; send it again"
_UNREACHED = "the verifier behind this gateway cannot be reached; try again in a few seconds"
_OWN_WORDS = "the verifier is "  # loading, or stopping
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a replica ended a stream: what the edge is to be told."""

    code: grpc.StatusCode
    details: str = ""
    metadata: tuple[tuple[str, str | bytes], ...] = ()

    @classmethod
    async def of(cls, call: Call) -> Ending:
        trailing: Any = await call.trailing_metadata()
        return cls(await call.code(), await call.details() or "", tuple(trailing or ()))

    @property
    def line(self) -> str:
        """What is said of a replica that was lost: its own words, where it had any."""
        return self.details if self.details.startswith(_OWN_WORDS) else _UNREACHED

    @property
    def is_torn(self) -> bool:
        """Whether gRPC does not tell how the stream ended: it did, or its connection broke, while we wrote."""
        return self.code is grpc.StatusCode.INTERNAL and ("Internal error from Core" in self.details or "RST_STREAM" in self.details)

    @property
    def is_lost(self) -> bool:
        """Whether it was the replica that failed, and not the request."""
        if self.is_torn:
            return True
        return self.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DATA_LOSS}


class Passage:
    """Of one stream of `context`, which begins with the message `first`, for `tenant`; `inbox` opened that and opens what follows. It is
    `run` once.

    Raises `InvalidInput` where `first` opens nothing. A thousand of them wait at a time: what each holds is kept small.
    """

    __slots__ = (
        "_call",
        "_context",
        "_down",
        "_edge_is_done",
        "_failed",
        "_failing_since",
        "_from_edge",
        "_has_last_word",
        "_has_room",
        "_is_abandoned",
        "_listener",
        "_num_replicas",
        "_num_torn",
        "_replicas",
        "_resumption",
        "_router",
        "_speaking",
        "_tenant",
        "_to_edge",
        "_to_replica",
        "_traffic",
        "_was_opened",
    )

    def __init__(self, context: Any, inbox: Inbox, first: bytes, tenant: str, router: Router, replicas: Replicas, traffic: Traffic) -> None:
        self._context, self._tenant, self._router, self._replicas, self._traffic = context, tenant, router, replicas, traffic
        traffic.num_streams += 1
        traffic.num_bytes_up += len(first)
        self._resumption = Resumption(first)
        self._listener: asyncio.Task[Any] | None = None  # who waits for the edge, as long as it does
        self._down: asyncio.Task[Ending] | None = None
        self._call: Call | None = None  # where messages from the edge go at once; None while there is no replica
        self._from_edge, self._to_edge, self._to_replica = inbox, Outbox(), Outbox()
        self._speaking = asyncio.Lock()  # one at a time writes to a replica
        self._has_room: asyncio.Future[None] | None = None
        self._edge_is_done = self._is_abandoned = self._was_opened = False  # it says no more; it has gone; it was told of its opening
        self._has_last_word = False  # the edge: its text is complete, and a stream that ended under its hands would be an error there
        self._num_replicas = 0  # that took this text up
        self._num_torn = 0
        self._failed: set[str] = set()  # since the last decision
        self._failing_since: float | None = None

    async def run(self) -> Ending:
        """Until a replica ends the stream for good. Raises `Unavailable` where there is none to go on with.

        When it is cancelled, or listening to the edge fails, `end_in_peace` is to follow.
        """
        self._down = asyncio.create_task(self._pass_down())
        self._down.add_done_callback(self._stop_listening)
        self._listener = listener = asyncio.current_task()
        try:
            await self._pass_up()
        except asyncio.CancelledError:
            if self._listener is not None or listener is None or listener.uncancel():
                raise
        finally:
            self._listener = None
        await asyncio.wait({self._down})
        return self._down.result()

    @property
    def is_over(self) -> bool:
        return self._down is None or self._down.done()

    def _stop_listening(self, down: asyncio.Task[Ending]) -> None:
        if self._listener is not None and not self._has_last_word:
            self._listener.cancel()
            self._listener = None
        if not down.cancelled():
            down.exception()  # whoever runs this sees it, or is no longer there

    async def _pass_up(self) -> None:
        """Until the edge says no more. Raises `Damaged` where that is not what the edge sent."""
        while isinstance(frame := await self._context.read(), bytes):
            self._traffic.num_bytes_up += len(frame)
            payload = self._from_edge.open(frame)
            async with self._speaking:
                self._resumption.sent(payload)
                if self._call is not None:
                    with contextlib.suppress(*CALL_ENDED):  # whoever reads from the call learns why, and has it sent again elsewhere
                        await self._call.write(self._to_replica.seal_payload(payload))
            while not self._resumption.has_room:
                self._has_room = asyncio.get_running_loop().create_future()
                await self._has_room
        self._edge_is_done = True
        async with self._speaking:
            if self._call is not None:
                with contextlib.suppress(*CALL_ENDED):
                    await self._call.done_writing()

    async def _pass_down(self) -> Ending:
        failure = Unavailable(_UNREACHED)
        while True:
            address = await self._chosen(failure)
            self._router.opened(address)
            self._replicas.hold(address)
            try:
                ending = await self._through(address)
            finally:
                self._call = None
                self._router.closed(address)
                await self._replicas.release(address, self._router.addresses)
            if not ending.is_lost or self._is_abandoned:
                return ending
            if self._resumption.is_complete:
                self._has_last_word = True
                return Ending(grpc.StatusCode.OK)
            if not self._resumption.can_go_on or self._num_replicas >= _MOST_REPLICAS:
                raise Unavailable(_LOST)
            _log.info("%s was lost: %s", address, ending.details)
            self._traffic.num_failovers += 1
            failure = Unavailable(ending.line)
            self._failing_since = self._failing_since or time.monotonic()
            if ending.is_torn and self._num_torn < _MOST_TORN:  # it may be well, and will tell again why
                self._num_torn += 1
            else:
                self._failed.add(address)

    async def end_in_peace(self) -> None:
        """The edge has gone: ends what it no longer hears. A call that is torn costs native memory (grpc#43360)."""
        down = self._down
        if down is None:
            return
        self._is_abandoned = True
        try:
            async with asyncio.timeout(_END_S), self._speaking:
                call = self._call
                if call is None:
                    down.cancel()
                else:
                    with contextlib.suppress(*CALL_ENDED):
                        await call.write(self._to_replica.seal_payload(CLOSE))
                        await call.done_writing()
                await asyncio.wait({down})
        except TimeoutError:
            down.cancel()
            await asyncio.wait({down})

    async def _chosen(self, failure: Unavailable) -> str:
        """The next replica. A text that has begun waits for one; what never worked is not waited for."""
        while True:
            opening = Opening(self._tenant, self._resumption.model, self._resumption.text, self._resumption.has_begun)
            try:
                return self._router.choose(opening, self._failed)
            except Unavailable as error:
                if self._failing_since is None:
                    raise
                if not self._was_opened or time.monotonic() - self._failing_since > _PATIENCE_S:
                    raise failure from error
                await asyncio.sleep(_RETRY_S)
                self._failed = set()

    async def _through(self, address: str) -> Ending:
        """Until the replica there ends the stream, or is lost."""
        call = self._replicas.speculate(address, self._tenant)
        try:
            outbox, inbox = Outbox(), Inbox()
            # No more is said before that is answered: a call that ends while it is written to would not tell why.
            await call.write(outbox.seal_payload(self._resumption.opening()))
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                opened = await call.read()
            self._num_replicas += 1
            if not isinstance(opened, bytes):
                return await Ending.of(call)
            payload = inbox.open(opened)
            if not self._was_opened:  # else the edge was told, by the replica before
                await self._tell(payload)
            async with self._speaking:
                for said in self._resumption.unanswered():
                    await call.write(outbox.seal_payload(said))
                    if self._num_torn:  # time to be told what was wrong with it
                        await asyncio.sleep(_RETRY_S)
                if self._edge_is_done:
                    await call.done_writing()
                self._call, self._to_replica = call, outbox
            while isinstance(frame := await call.read(), bytes):
                await self._tell(inbox.open(frame))
        except TimeoutError:
            return Ending(grpc.StatusCode.UNAVAILABLE, _UNREACHED)
        except CALL_ENDED:
            return await Ending.of(call)
        except (Damaged, Unavailable) as error:  # what came from there is not what was sent, or cannot be read
            return Ending(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            call.cancel()  # nothing to a call that has ended
        return await Ending.of(call)

    async def _tell(self, payload: bytes) -> None:
        decision = decision_in(payload)
        if decision is None:
            self._was_opened = True
        else:
            self._resumption.decided(decision)
            self._traffic.num_decisions += 1
            if self._has_room is not None and not self._has_room.done():
                self._has_room.set_result(None)
            if self._failing_since is not None:
                self._failed, self._failing_since = set(), None
        if not self._is_abandoned:
            frame = self._to_edge.seal_payload(payload)
            self._traffic.num_bytes_down += len(frame)
            await self._context.write(frame)
