"""Which sessions hold pages, and who gives them up when they run out.

The oldest session comes first: it can have everybody's pages, so that it always gets on, and whatever else happens
everything is read in the end. First to give are the idle, whose edges are drafting, the one longest unread before the
others; then, newest first, sessions that wait. Whoever gave reads its text again when its turn comes, less what is still
known by content.
Knows sessions, turns and pages; knows nothing of models or threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import takewhile

from cactus_core.errors import LimitExceeded
from cloud.scheduler import SMALL, Share
from cloud.session import Session
from cloud.tally import Tally
from cloud.turn import Turn

_DUE_S = 1.0  # an edge that has not come back by then is not waited for


class Residency:
    """The open sessions, in the order they were opened."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._sessions: dict[Session, None] = {}
        self._looked_for: set[Session] = set()  # a text that waits is looked for before each step, and is counted once

    @property
    def num_sessions(self) -> int:
        return len(self._sessions)

    def add(self, session: Session) -> None:
        self._sessions[session] = None

    def remove(self, session: Session) -> None:
        """Its pages are given back. A session that is gone already is no error."""
        self._sessions.pop(session, None)
        self._looked_for.discard(session)
        session.table.release()

    def recall(self, turns: Iterable[Turn]) -> None:
        """Of texts that nothing is read of, takes what another text's pages hold already."""
        for turn in turns:
            if not turn.session.table.num_reserved:
                turn.session.table.adopt(turn.session.text, turn.session.tenant)
                if turn.session not in self._looked_for:
                    self._looked_for.add(turn.session)
                    self._tally.num_looked_up += len(turn.session.text)
                self._tally.num_found += turn.session.table.num_committed

    def num_due(self, waiting: Collection[Session]) -> int:
        """The tokens of the smallest work that an idle session's edge may send at any moment, by what it sent last; 0 without any."""
        since = time.monotonic() - _DUE_S
        return min((session.last_size for session in self._idle_and_small(waiting) if session.last_answered > since), default=0)

    def next_back(self, waiting: Collection[Session]) -> float:
        """When the first of the idle sessions' edges with small work is expected back, by how long each was away the last time."""
        now = time.monotonic()
        expected = (session.last_answered + session.away_s for session in self._idle_and_small(waiting))
        return min((back for back in expected if back > now), default=math.inf)

    def _idle_and_small(self, waiting: Collection[Session]) -> Iterator[Session]:
        return (s for s in self._sessions if s not in waiting and not s.is_complete and s.last_size <= SMALL)

    def oldest_of(self, sessions: Collection[Session]) -> Session:
        return next(session for session in self._sessions if session in sessions)

    def seat(self, shares: Iterable[Share[Turn]], waiting: Mapping[Session, Turn]) -> list[Share[Turn]]:
        """Those of `shares` whose positions could be reserved; the others are to wait. `waiting` are all sessions' turns: they
        may be made to start over.
        """
        by_session = {share.work.session: share for share in shares}
        seated = []
        for session in self._sessions:
            share = by_session.get(session)
            if share is not None and self._reserve(share, waiting):
                seated.append(share)
        return seated

    def _reserve(self, share: Share[Turn], waiting: Mapping[Session, Turn]) -> bool:
        turn = share.work
        table = turn.session.table
        while True:
            try:
                table.reserve(table.num_committed + turn.num_before + share.num_tokens)
            except LimitExceeded:
                giver = self._giver(turn.session, waiting)
                if giver is None:
                    return False
                self._looked_for.discard(giver)
                if giver in waiting:
                    waiting[giver].start_over()
                    self._tally.num_preemptions += 1
                else:
                    giver.table.release()
                    self._tally.num_evictions += 1
            else:
                return True

    def _giver(self, wanting: Session, waiting: Mapping[Session, Turn]) -> Session | None:
        idle = [session for session in self._sessions if session.table.num_pages and session not in waiting]
        if idle:
            return min(idle, key=lambda session: session.last_step)
        # What is older is seated already, or goes before.
        newer = takewhile(lambda session: session is not wanting, reversed(self._sessions))
        return next((session for session in newer if session.table.num_pages), None)
