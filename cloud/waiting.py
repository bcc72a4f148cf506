"""What callers handed over and the loop has not finished: turns in order of arrival, streams, sessions that come and go.

The one place where callers' threads and the loop's meet. Knows threads and moments; knows nothing of models, pages or how a
step is made up.
"""

from __future__ import annotations

import threading
import time

from cactus_core.errors import CactusError, Unavailable
from cactus_core.session import Hint
from cloud.residency import Residency
from cloud.session import Session
from cloud.stream import Stream
from cloud.turn import Turn

_NEVER_S = threading.TIMEOUT_MAX


class Waiting:
    """Its attributes, and those methods that say so, are for whoever holds `lock`.

    A stream has a turn in `turns`, or is held until it is due. Turns are made and replaced by the loop's thread alone, between two
    steps, so that what a step was made up of stays as it is.
    """

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.turns: dict[Session, Turn] = {}
        self.streams: dict[Session, Stream] = {}
        self.is_running = False
        self._opened: list[Session] = []
        self._closing: list[Session] = []
        self._changed: set[Session] = set()  # of streams, those to be looked at again
        self._due: dict[Session, float] = {}  # of held streams, those that go on by themselves

    @property
    def longest_s(self) -> float:
        """How long that turn has waited that has waited longest, of those that must not wait; 0 without any."""
        now = time.monotonic()
        with self.lock:
            return max((now - turn.arrived for turn in self.turns.values() if not turn.is_optional), default=0.0)

    def check_running(self) -> None:
        """Raises `Unavailable` once the loop is to end."""
        if not self.is_running:
            raise Unavailable("the verifier is stopping; send the request again")

    def open(self, session: Session) -> None:
        with self.lock:
            self._opened.append(session)

    def close(self, session: Session) -> None:
        with self.lock:
            self._closing.append(session)
            self.lock.notify()

    def put(self, turn: Turn) -> None:
        """The caller holds the lock."""
        self.turns[turn.session] = turn
        self.lock.notify()

    def add_stream(self, stream: Stream) -> None:
        """The caller holds the lock."""
        self.streams[stream.session] = stream
        self._look_at(stream.session)

    def hint(self, session: Session, hint: Hint) -> None:
        """Of a stream that has ended, or is no more, nothing is wanted. Raises what `Hints.take` raises."""
        with self.lock:
            stream = self.streams.get(session)
            if stream is not None and not session.is_complete and stream.hints.take(hint, len(session.text), time.monotonic()):
                self._look_at(session)

    def next(self, residency: Residency, *, at_once: bool = False) -> dict[Session, Turn] | None:
        """For the loop: all turns, once there are any or sessions have come or gone, which `residency` is told, or `at_once`; None when
        it is to end.
        """
        with self.lock:
            self._take_up()
            while self.is_running and not self.turns and not self._closing and not at_once:
                self.lock.wait(min(max(0.0, self._first_due() - time.monotonic()), _NEVER_S))
                self._take_up()
            self._welcome_and_part(residency)
            return dict(self.turns) if self.is_running else None

    def pause(self, until: float) -> None:
        """For the loop: until then, or until something new waits or is due."""
        with self.lock:
            if self.is_running:
                self.lock.wait(max(0.0, min(until, self._first_due()) - time.monotonic()))

    def settled(self, turns: list[Turn]) -> None:
        """For the loop: these were decided."""
        now = time.monotonic()
        with self.lock:
            for turn in turns:
                del self.turns[turn.session]
                if (stream := self.streams.get(turn.session)) is None:
                    continue
                if turn.session.is_complete:
                    del self.streams[turn.session]
                else:
                    stream.hints.decided(now)
                    self._changed.add(turn.session)

    def fail(self, turns: list[Turn], error: CactusError) -> None:
        """For the loop: these are not going to be decided; streams end."""
        with self.lock:
            for turn in turns:
                if self.turns.get(turn.session) is turn:
                    del self.turns[turn.session]
                self.streams.pop(turn.session, None)
                turn.start_over()
        for turn in turns:
            if turn.claim():
                turn.answer.set_exception(error)

    def fail_all(self, error: CactusError) -> None:
        """Once the loop has ended."""
        with self.lock:
            turns = [*self.turns.values(), *(stream.turn() for session, stream in self.streams.items() if session not in self.turns)]
        self.fail(turns, error)

    def _look_at(self, session: Session) -> None:
        self._changed.add(session)
        self.lock.notify()

    def _first_due(self) -> float:
        return min(self._due.values(), default=_NEVER_S)

    def _take_up(self) -> None:
        """Turns for the streams that are due, with the newest drafts. What an edge took back by a newer hint is held again."""
        now = time.monotonic()
        looked_at = {*self._changed, *(session for session, due in self._due.items() if due <= now)}
        self._changed.clear()
        for session in looked_at:
            stream, queued = self.streams.get(session), self.turns.get(session)
            self._due.pop(session, None)
            if stream is None:
                continue
            if queued is not None and queued.has_begun:
                self._changed.add(session)  # it may have to start over yet
            elif (due := stream.due) <= now:
                self.turns[session] = stream.turn(queued)
            else:
                self.turns.pop(session, None)
                self._due[session] = due

    def _welcome_and_part(self, residency: Residency) -> None:
        for session in self._opened:
            residency.add(session)
        self._opened.clear()
        for session in self._closing:
            turn, stream = self.turns.pop(session, None), self.streams.pop(session, None)
            if turn is not None:
                turn.answer.cancel()
            if stream is not None:
                stream.end.cancel()
            self._changed.discard(session)
            self._due.pop(session, None)
            residency.remove(session)
        self._closing.clear()
