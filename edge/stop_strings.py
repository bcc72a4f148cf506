"""Strings that end a text, wherever in its tokens they lie.

Knows text as it grows; knows nothing of tokens, nor of who stops.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes text on as it comes, less what may yet become one of `stops`, none of them empty."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.num_passed = 0  # characters, since the text began

    def feed(self, text: str) -> tuple[str, bool]:
        """What may be shown now, and whether the text ends there: before the first of the stop strings that it holds."""
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            return self._pass(min(places)), True
        return self._pass(len(self._held) - max((self._begun(stop) for stop in self._stops), default=0)), False

    def end(self) -> str:
        """What was held back of a text that ended by itself."""
        return self._pass(len(self._held))

    def _begun(self, stop: str) -> int:
        """How many of the last characters are a beginning of `stop`."""
        return next((size for size in range(min(len(stop) - 1, len(self._held)), 0, -1) if self._held.endswith(stop[:size])), 0)

    def _pass(self, size: int) -> str:
        passed, self._held = self._held[:size], self._held[size:]
        self.num_passed += size
        return passed
