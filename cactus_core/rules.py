"""Acceptance rules: what each composes, and the label that a proof in tests/law has earned it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cactus_core import choosing
from cactus_core.choosing import Choosing
from cactus_core.errors import Unsupported


class Label(StrEnum):
    EXACT = "exact"  # what is emitted is distributed as the target, to rounding
    BOUNDED = "bounded"  # its divergence from the target is at most a stated budget
    UNBOUNDED = "unbounded"  # neither


@dataclass(frozen=True, slots=True)
class Rule:
    """Choose one path with `choose`, then verify it as a block."""

    name: str
    label: Label
    choose: Choosing


RULES = {rule.name: rule for rule in (Rule("quota", Label.EXACT, choosing.quota),)}
DEFAULT_RULE = "quota"


def rule_named(name: str) -> Rule:
    """Raises `Unsupported`, naming the rules there are."""
    if name not in RULES:
        raise Unsupported(f"no acceptance rule is called {name!r}; there are: {', '.join(sorted(RULES))}")
    return RULES[name]
