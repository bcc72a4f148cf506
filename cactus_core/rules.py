"""Acceptance rules by name, each with the label that a proof in tests/law has earned it.

Those of the rejection family say what they compose, and decide between drafted paths. The coupled rule decides nothing: its
trees are walked (cactus_core/coupled.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cactus_core import choosing
from cactus_core.choosing import Choosing
from cactus_core.coins import Coins, Floats
from cactus_core.deciding import decide_chosen
from cactus_core.errors import Unsupported
from cactus_core.nearest import nearest
from cactus_core.paths import DraftedPaths, Verdicts
from cactus_core.recursive import decide_recursive
from cactus_core.relaxing import Relaxation
from cactus_core.spectr_gbv import decide_spectr_gbv
from cactus_core.traversal import decide_traversal
from cactus_core.verifying import BLOCK, TOKEN, Verification


class Label(StrEnum):
    EXACT = "exact"  # what is emitted is distributed as the target, to rounding
    BOUNDED = "bounded"  # its divergence from the target is at most a stated budget
    UNBOUNDED = "unbounded"  # neither


# (paths, coins, relaxation or None, what each session may still spend on it in nats [B])
Decide = Callable[[DraftedPaths, Coins, Relaxation | None, Floats], Verdicts]


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` says what the rule composes: how a path is chosen, and how it is verified. `known_as` is what its paper calls it."""

    name: str
    label: Label
    decide: Decide
    known_as: str = ""


def _composed(name: str, choose: Choosing, verification: Verification, known_as: str = "") -> Rule:
    def decide(paths: DraftedPaths, coins: Coins, relaxation: Relaxation | None, left: Floats) -> Verdicts:
        return decide_chosen(paths, choose, verification, coins, relaxation, left)

    return Rule(f"{name}+{verification.name}", Label.EXACT, decide, known_as)


DEFAULT_RULE = "nearest+block"
RULES = {
    rule.name: rule
    for rule in (
        _composed("first", choosing.first, TOKEN, "speculative sampling"),
        _composed("first", choosing.first, BLOCK, "block verification"),
        _composed("kseq_or_none", choosing.kseq_or_none, TOKEN, "SpecTr"),
        _composed("kseq", choosing.kseq, TOKEN),
        _composed("kseq", choosing.kseq, BLOCK, "SpecTr-GBV, corrected"),
        _composed("ranked", choosing.ranked, TOKEN),
        _composed("ranked", choosing.ranked, BLOCK, "greedy multi-path"),
        _composed("quota", choosing.quota, TOKEN),
        _composed("quota", choosing.quota, BLOCK),
        _composed("nearest", nearest, TOKEN),
        _composed("nearest", nearest, BLOCK),
        Rule("recursive", Label.EXACT, decide_recursive, "recursive rejection"),
        Rule("traversal", Label.EXACT, decide_traversal, "traversal verification"),
        Rule("spectr_gbv", Label.UNBOUNDED, decide_spectr_gbv, "SpecTr-GBV, as published"),
    )
}

COUPLED = "coupled"
# All that can be asked for, of both families.
LABELS = {**{name: rule.label for name, rule in RULES.items()}, COUPLED: Label.EXACT}


def label_of(name: str) -> Label:
    """Raises `Unsupported`, naming the rules there are."""
    if name not in LABELS:
        raise Unsupported(f"no acceptance rule is called {name!r}; there are: {', '.join(sorted(LABELS))}")
    return LABELS[name]
