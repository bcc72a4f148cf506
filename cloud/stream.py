"""A text that is written on by itself until it ends: turn after turn, with what its edge drafts or without.

Knows its session, its hints and who is told; knows nothing of other texts, of steps or of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from cactus_core.block import empty_block
from cactus_core.session import Decision
from cloud.hints import Hints
from cloud.session import Session
from cloud.turn import Drafts, Turn


@dataclass(eq=False, slots=True)
class Stream:
    """`deliver` gets each decision; `end` is done when the text is, or when it cannot go on."""

    session: Session
    deliver: Callable[[Decision], None]
    hints: Hints
    end: Future[None] = field(default_factory=Future)

    @classmethod
    def of(cls, session: Session, deliver: Callable[[Decision], None], num_positions: int, now: float) -> Stream:
        """Only what is drafted under the rule `coupled` is worth waiting for."""
        request, num_prompt = session.request, len(session.request.prompt)
        waits = request.acceptance.is_coupled and not request.decode_alone
        hints = Hints(num_prompt, num_prompt + request.max_tokens, num_positions, math.inf if waits else 0.0, now)
        return cls(session, deliver, hints)

    @property
    def due(self) -> float:
        """From when on there is a turn to take; infinity while only a hint can tell."""
        return self.hints.due(self.session.text)

    def turn(self, queued: Turn | None = None) -> Turn:
        """The next turn, with the newest drafts, in the place of one that is `queued`, has not begun, and keeps its place in the order."""
        text, hints = self.session.text, self.hints
        drafts: Drafts = hints.tree(text) if self.session.request.acceptance.is_coupled else empty_block(len(text))
        return Turn(
            self.session,
            hints.round,
            drafts,
            self.end,
            self.deliver,
            hinted=hints.heard,
            arrived=hints.due(text) if queued is None else queued.arrived,
            optional_until=hints.present_until if hints.is_in_gap(text) else -math.inf,
            is_in_parts=queued is not None and queued.is_in_parts,
        )
