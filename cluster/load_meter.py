"""What a replica says of its load, from what its engine counts.

Knows sums, moments and shares; knows nothing of sessions, of models or of who asks.
"""

from __future__ import annotations

import math
from typing import Protocol

from cloud.loop import EngineFigures
from cluster.routing import Load, short

_MEMORY_S = 2.0  # what is older counts for little
_MOST_KEYS = 4096  # of eight bytes
_FORGETS = 1.02  # a reading: a token's best time may have been luck


class Measured(Protocol):
    """As `Engine`: what is counted there. Any thread may ask."""

    @property
    def figures(self) -> EngineFigures: ...

    @property
    def num_pages(self) -> int: ...

    @property
    def num_free_pages(self) -> int: ...

    @property
    def num_sessions(self) -> int: ...

    @property
    def longest_wait_s(self) -> float: ...

    def recent_keys(self, num_keys: int) -> list[bytes]: ...


class LoadMeter:
    """Of one engine. `now`s are seconds of one clock that never goes back."""

    def __init__(self, engine: Measured, now: float) -> None:
        self._engine = engine
        self._before, self._at = engine.figures, now
        self._queue_s = self._token_s = 0.0
        self.tokens_per_s = 0.0  # emitted

    def read(self, now: float) -> Load:
        engine, figures, before = self._engine, self._engine.figures, self._before
        took_s = max(now - self._at, 1e-6)
        stays = math.exp(-took_s / _MEMORY_S)
        num_decided = figures.num_decided - before.num_decided
        queue_s = (figures.queue_s - before.queue_s) / num_decided if num_decided else 0.0
        self._queue_s = stays * self._queue_s + (1.0 - stays) * queue_s
        self.tokens_per_s = stays * self.tokens_per_s + (1.0 - stays) * (figures.num_emitted - before.num_emitted) / took_s
        if num_read := figures.num_read - before.num_read:
            # Small steps cost as much as larger ones: what one more token of a prompt takes, only large ones show.
            token_s = (figures.busy_s - before.busy_s) / num_read
            self._token_s = min(token_s, _FORGETS * self._token_s) if self._token_s else token_s
        self._before, self._at = figures, now
        return Load(
            # Where no step ends, nothing is decided: what waits now tells it.
            queue_s=max(self._queue_s, engine.longest_wait_s),
            occupancy=1.0 - engine.num_free_pages / engine.num_pages,
            num_sessions=engine.num_sessions,
            token_s=self._token_s,
            prefixes=frozenset(map(short, engine.recent_keys(_MOST_KEYS))),
        )
