"""Rounds in time: what edge, link and cloud did for a request, and when, worked out from what the edge noted down.

The edge's own moments are measured. Those on the way and in the cloud are placed by them: each way is taken to last half a round trip,
and a step to have ended that long before its decision came, or sooner. Knows seconds; knows nothing of processes, or of how a
picture is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    begin_s: float
    end_s: float

    def meets(self, other: Span) -> bool:
        return self.begin_s <= other.end_s and other.begin_s <= self.end_s


@dataclass(frozen=True, slots=True)
class Arrival:
    """Tokens of one decision, of which `num_accepted` had been drafted, as they came to the edge."""

    at_s: float
    num_tokens: int
    num_accepted: int


@dataclass(frozen=True, slots=True)
class Course:
    """A request in time; seconds since its stream was opened. Each lane is in order of its beginnings."""

    drafts: tuple[Span, ...]
    up: tuple[Span, ...]
    steps: tuple[Span, ...]
    down: tuple[Span, ...]
    arrivals: tuple[Arrival, ...]

    @property
    def end_s(self) -> float:
        return self.arrivals[-1].at_s if self.arrivals else 0.0

    def within(self, window: Span) -> Course:
        """What of it shows in a window."""
        drafts, up, steps, down = (
            tuple(span for span in lane if span.meets(window)) for lane in (self.drafts, self.up, self.steps, self.down)
        )
        return Course(drafts, up, steps, down, tuple(came for came in self.arrivals if window.begin_s <= came.at_s < window.end_s))

    @property
    def num_tokens(self) -> int:
        return sum(came.num_tokens for came in self.arrivals)


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn: of the first edge everything, of the others and of the first edge's request without drafts (`alone`) the tokens.

    `step_at_least_s` above 0 says that the verifier was padded to that.
    """

    link: str
    one_way_s: float
    step_at_least_s: float
    window: Span
    edges: tuple[Course, ...]
    alone: Course

    @property
    def emulated(self) -> tuple[str, ...]:
        """What in it stands for something else than it is, a line each."""
        each_way = f"the link, {self.one_way_s * 1e3:g} ms each way" if self.one_way_s else "the link, without delay"
        padded = f"steps, padded to {self.step_at_least_s * 1e3:g} ms"
        return (each_way, padded) if self.step_at_least_s else (each_way,)


def course_of(rounds: Sequence[Mapping[str, Any]], one_way_s: float) -> Course:
    """`rounds` as `cactus generate --json` writes them. Of drafts that were sent between two decisions the last one's moment is known:
    they are drawn as one. A decision that the edge took in late is known by the step after it, which cannot have begun before.
    """
    drafts: list[Span] = []
    for done in rounds:
        if done["draft_s"] > 0.0:
            before_s = drafts[-1].end_s if drafts else -math.inf
            sent_s = max(done["at_s"] - done["wait_s"], before_s)
            drafts.append(Span(max(sent_s - done["draft_s"], before_s), sent_s))
    steps: list[Span] = []
    next_s = math.inf
    for done in reversed(rounds):
        decided_s = min(done["at_s"] - one_way_s, next_s)
        next_s = decided_s - done["verify_s"]
        steps.append(Span(next_s, decided_s))
    steps.reverse()
    return Course(
        drafts=tuple(drafts),
        up=tuple(Span(draft.end_s, draft.end_s + one_way_s) for draft in drafts),
        steps=tuple(steps),
        down=tuple(Span(step.end_s, done["at_s"]) for step, done in zip(steps, rounds, strict=True)),
        arrivals=tuple(Arrival(done["at_s"], done["num_tokens"], done["num_accepted"]) for done in rounds),
    )


def middle(courses: Sequence[Course], length_s: float) -> Span:
    """So much time from the middle of the shortest of them, or all that it has."""
    end_s = min(course.end_s for course in courses)
    begin_s = max(end_s - length_s, 0.0) / 2
    return Span(begin_s, min(begin_s + length_s, end_s))


def ticks(window: Span, most: int) -> list[float]:
    """Round moments in a window for its axis to name, evenly apart and `most` at most."""
    length_ms = (window.end_s - window.begin_s) * 1e3
    step_ms = next((size for size in (5, 10, 20, 50, 100, 200, 500, 1000, 2000) if length_ms <= most * size), 5000)
    first = math.ceil(window.begin_s * 1e3 / step_ms)
    return [number * step_ms / 1e3 for number in range(first, math.floor(window.end_s * 1e3 / step_ms) + 1)]
