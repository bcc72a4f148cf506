"""Which waiting work goes into the next step, and how much of it.

First come, first served, under a budget of tokens a step. Work that is larger than the room left is read in parts: its
text is prefilled in chunks over several steps, and its block joins the step in which the last of the text does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Work(Protocol):
    @property
    def num_unread(self) -> int:
        """Tokens of the text that the model has not read yet; at least one, the last."""

    @property
    def num_drafted(self) -> int:
        """Nodes of the block's tree."""


W = TypeVar("W", bound=Work)


@dataclass(frozen=True, slots=True)
class Share(Generic[W]):
    """One piece of work's part of a step: so many tokens of its text, and, if `decides`, its block."""

    work: W
    num_text: int
    decides: bool


def plan_step(waiting: Iterable[W], token_budget: int) -> list[Share[W]]:
    """Shares in order of arrival. The first piece of work always gets one, so that nothing waits for ever."""
    shares: list[Share[W]] = []
    room = token_budget
    for work in waiting:
        whole = work.num_unread + work.num_drafted
        if whole <= room or (not shares and work.num_unread <= 1):
            shares.append(Share(work, work.num_unread, decides=True))
            room -= whole
        elif (chunk := min(room, work.num_unread - 1)) > 0:
            shares.append(Share(work, chunk, decides=False))
            room -= chunk
        if room <= 0:
            break
    return shares
