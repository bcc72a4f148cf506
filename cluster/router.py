"""Which replica a new request goes to. For now: each in turn, dead ones skipped.

Knows addresses; knows nothing of Ray or of streams.
"""

from __future__ import annotations

from collections.abc import Sequence

from cactus_core.errors import Unavailable


class Router:
    """Replicas by address, in the order they are tried."""

    def __init__(self, replicas: Sequence[str] = ()) -> None:
        self._replicas = list(replicas)
        self._next = 0

    def replace(self, replicas: Sequence[str]) -> None:
        self._replicas = list(replicas)

    def order(self) -> list[str]:
        """All replicas, the one whose turn it is first. Raises `Unavailable` when there are none."""
        if not self._replicas:
            raise Unavailable("no verifier is ready behind this gateway; try again in a few seconds")
        self._next = (self._next + 1) % len(self._replicas)
        return self._replicas[self._next :] + self._replicas[: self._next]
