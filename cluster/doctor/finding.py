"""What a check found: whether it is well, and what to do where it is not.

Knows text; knows nothing of what is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    GOOD = "good"
    NOTE = "note"  # works, and could be better
    BAD = "bad"  # does not work: exit status 1


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is what to do, in one line; empty where nothing needs to be done."""

    health: Health
    what: str
    says: str
    remedy: str = ""


def good(what: str, says: str) -> Finding:
    return Finding(Health.GOOD, what, says)


def note(what: str, says: str, remedy: str) -> Finding:
    return Finding(Health.NOTE, what, says, remedy)


def bad(what: str, says: str, remedy: str) -> Finding:
    return Finding(Health.BAD, what, says, remedy)
