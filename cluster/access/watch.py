"""One stream that was let in, watched frame by frame: what it takes, and whether it moves.

Two kinds of drafts are left out here, so that they cost the verifier nothing. Trees beyond the credits, sent before anything was
decided on those before them: the newest would count alone, so they are dropped, and whoever goes on sending them is ended. And
all drafts of a caller whose drafts hardly ever stand: each tree goes on with no nodes for a while, which is plain decoding of the
same text. Blocks of the other rules are passed on as they are, since what they emit is drawn with their own coins: there the
quota on positions bounds the waste.
Knows frames and its caller's use; knows nothing of where the frames go.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc.aio

from cactus_core.errors import CactusError, InvalidInput, LimitExceeded
from cactus_core.wire.frames import Inbox, Outbox, edge_frame
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.serving import Context
from cloud.status import abort
from cluster.access.admission import Admission
from cluster.access.frames import cloud_frame, num_asked, num_emitted, without_drafts
from cluster.access.quotas import Use

_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # which its stubs do not have
_CREDITS = 8  # until the verifier has said how many
_MOST_DROPPED = 256
_LAST_WORD_S = 2.0  # for the status to reach whoever does not read


async def answered(handler: Callable[[Any, Any], Any], request: Any, context: Any) -> None:
    """Has a call answered by a handler of either style that gRPC has: one that yields, or one that writes to the context."""
    if not inspect.isasyncgenfunction(handler):
        await handler(request, context)
        return
    async with aclosing(handler(request, context)) as answers:
        async for answer in answers:
            await context.write(answer)


class _WatchedContext:
    """gRPC's, but for what is read and written."""

    __slots__ = ("_context", "_watched")

    def __init__(self, context: Context, watched: Watched) -> None:
        self._context, self._watched = context, watched

    async def read(self) -> Any:
        return await self._watched.read(self._context)

    async def write(self, frame: Any) -> None:
        await self._watched.write(frame, self._context)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class Watched:
    __slots__ = (
        "_admission",
        "_credits",
        "_fault",
        "_inbox",
        "_is_open",
        "_moved",
        "_num_dropped",
        "_num_held",
        "_num_waiting",
        "_outbox",
        "_overdraft",
        "_task",
        "_use",
        "_waits_for",
    )

    def __init__(self, use: Use, admission: Admission) -> None:
        self._use, self._admission = use, admission
        self._inbox, self._outbox = Inbox(), Outbox()  # what is left out here must not be missed by whoever counts frames
        self._task: asyncio.Task[Any] | None = None
        self._fault: CactusError | None = None
        self._overdraft: CactusError | None = None
        self._moved = time.monotonic()
        self._waits_for = "first"  # frame, "edge", "cloud" or "reader"
        self._is_open = False
        self._credits, self._num_waiting, self._num_dropped = _CREDITS, 0, 0
        self._num_held = 0  # positions that its prompt and text have

    async def run(self, handler: Callable[[Any, Any], Any], frames: AsyncIterator[Any], context: Context) -> None:
        """Serves the stream by `handler`, in this task, until either ends it, or it breaks a limit: then with one status."""
        self._task = asyncio.current_task()
        try:
            await answered(handler, self._listened(frames), _WatchedContext(context, self))
            if self._fault is not None:
                await asyncio.sleep(0.0)  # here the end that this task itself asked for arrives
        except asyncio.CancelledError:
            if self._fault is None or self._task is None:
                raise
            self._task.uncancel()
        if self._fault is not None:
            # Whoever does not read gets it once it does; nobody waits for that here.
            try:
                async with asyncio.timeout(_LAST_WORD_S):
                    await abort(context, self._fault)
            except (TimeoutError, grpc.aio.BaseError):  # the latter where not even the first frame was taken
                raise asyncio.CancelledError from None

    def let_go(self) -> None:
        """Of the positions that it held: it has ended."""
        self._hold(-self._num_held)

    def end(self, fault: CactusError) -> None:
        """Ends the stream with this status; the first one counts."""
        if self._fault is None and self._task is not None:
            self._fault = fault
            self._task.cancel()

    def check(self, now: float) -> None:
        """Ends the stream if it has stood still for too long, and whoever it waits for is the caller."""
        admission, still_s = self._admission, now - self._moved
        if self._waits_for == "first" and still_s > admission.first_frame_s:
            self.end(LimitExceeded(f"nothing came on this stream for {admission.first_frame_s:g} s; begin with Open"))
        elif self._waits_for == "edge" and still_s > admission.idle_s:
            self.end(LimitExceeded(f"no frame came for {admission.idle_s:g} s; open the stream again with what was committed"))
        elif self._waits_for == "reader" and still_s > admission.slow_reader_s:
            self.end(LimitExceeded(f"a frame was not read for {admission.slow_reader_s:g} s; read faster, or ask for less at once"))

    async def read(self, context: Context) -> Any:
        """The next frame that is passed on, or gRPC's end of file."""
        while True:
            frame: Any = await context.read()
            if frame is _EOF:
                return frame
            if (passed := self._passed(frame)) is not None:
                return passed

    async def write(self, frame: Any, context: Context) -> None:
        self._counted(frame)
        await context.write(frame)
        self._wait_for("edge")
        if self._overdraft is not None:  # what was paid for is out
            self.end(self._overdraft)

    async def _listened(self, frames: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for frame in frames:
            if (passed := self._passed(frame)) is not None:
                yield passed

    def _passed(self, frame: Any) -> Any:
        """As `_taken`. Where that raises, the stream ends: by the handler itself if it reads in its own task."""
        try:
            return self._taken(frame)
        except CactusError as fault:
            if asyncio.current_task() is self._task:
                raise
            self.end(fault)
            return None

    def _taken(self, frame: Any) -> Any:
        """What is passed on of a frame from the edge, once it is counted; None for nothing."""
        payload = self._inbox.open(frame)
        now, message = time.monotonic(), edge_frame(payload)
        if self._waits_for != "reader":
            self._wait_for("cloud")
        match message.WhichOneof("kind"):
            case "open":
                self._asked(message.open, now)
            case "draft_block":
                self._use.check_running(now)
                self._drafted(message.draft_block.num_rows * message.draft_block.length, now)
            case "draft_tree":
                self._use.check_running(now)
                tree = self._tree(payload, message, now)
                return None if tree is None else self._outbox.seal_payload(tree)
        return self._outbox.seal_payload(payload)

    def _asked(self, opening: pb.Open, now: float) -> None:
        if self._is_open:
            raise InvalidInput("a stream is opened once; send another request on another stream")
        self._is_open = True
        most = self._admission.max_prompt_bytes
        if len(opening.prompt_varints) + len(opening.committed_varints) > most:
            raise LimitExceeded(f"a prompt and what was committed may take {most} bytes here; shorten it")
        count = num_asked(opening)
        self._use.check_asked(count)
        self._hold(count)
        self._use.charge(count, now)

    def _tree(self, payload: bytes, message: pb.EdgeFrame, now: float) -> bytes | None:
        if self._num_waiting >= self._credits:
            self._num_dropped += 1
            if self._num_dropped > _MOST_DROPPED:
                raise LimitExceeded(f"far more than {self._credits} trees came before a decision on them; wait for decisions")
            return None
        self._num_waiting += 1
        num_nodes = message.draft_tree.num_nodes
        if not num_nodes:
            return payload
        if self._use.is_throttled(now):
            return without_drafts(message)
        self._drafted(num_nodes, now)
        return payload

    def _drafted(self, num_nodes: int, now: float) -> None:
        self._use.charge(num_nodes, now)
        self._use.drafted(num_nodes)

    def _counted(self, frame: Any) -> None:
        """Counts a frame from the cloud, which is about to be written."""
        now, message = time.monotonic(), cloud_frame(frame)
        kind = message.WhichOneof("kind") if message is not None else None
        if message is not None and kind == "decision":
            count = num_emitted(message.decision)
            self._num_waiting = 0
            self._hold(count)
            self._use.charge(1, now)
            self._use.accepted(message.decision.num_accepted, now)
            try:
                self._use.check_running(now)
            except LimitExceeded as fault:
                self._overdraft = None if message.decision.finish else fault
        elif message is not None and kind == "opened":
            self._credits = message.opened.credits or _CREDITS
        self._wait_for("reader")

    def _hold(self, count: int) -> None:
        self._num_held += count
        self._use.num_held += count

    def _wait_for(self, whom: str) -> None:
        self._moved, self._waits_for = time.monotonic(), whom
