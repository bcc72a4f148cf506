"""What a request asks for: which rule decides, how far its text may stray from the target's law, and at what price.

Knows rules and relaxations by name; knows nothing of sessions, of the wire or of models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cactus_core.coins import Coins, Floats
from cactus_core.errors import InvalidInput, Unsupported
from cactus_core.paths import DraftedPaths, Verdicts
from cactus_core.relaxing import Certified, Interpolated, Relaxation, Strength
from cactus_core.rules import COUPLED, DEFAULT_RULE, RULES, Decide, Label, label_of
from cactus_core.token_level import Cactus, TokenLevel, TopK, Typical, decide_token_level

# What replaces the target's law before any exact rule, by the meaning of `strength`.
RELAXATIONS: dict[str, Callable[[Strength], Relaxation]] = {
    "certified": lambda delta: Certified(delta=delta),
    "certified_tv": lambda delta: Certified(delta=delta, in_tv=True),
    "priced": lambda price: Certified(price=price),
    "interpolate": Interpolated,
}
# Published rules that judge each token of one path by themselves: they compose with nothing, and run as published.
TOKEN_LEVEL: dict[str, Callable[[float], TokenLevel]] = {
    "cactus": Cactus,
    "cactus_exact": lambda delta: Cactus(delta, is_exact=True),
    "typical": Typical,
    "top_k": TopK,
}
# What a relaxation's `strength` is.
STRENGTH_OF = {
    "certified": "delta",
    "certified_tv": "delta",
    "priced": "price",
    "interpolate": "alpha",
    "cactus": "delta",
    "cactus_exact": "delta",
    "typical": "threshold",
    "top_k": "k",
}
_ALONE = "first+token"
Decider = Callable[[DraftedPaths, Coins, Floats], Verdicts]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A rule, relaxed or not. Raises `InvalidInput` or `Unsupported` where that does not hold together.

    `relaxation` is empty (none) or a name of RELAXATIONS or TOKEN_LEVEL; `strength` is its delta, price, alpha, threshold or k.
    `budget` is the most that the whole response may spend, in nats, as the ledger counts it; only what is made to stay
    within it (RELAXATIONS) takes one.
    """

    rule: str = DEFAULT_RULE
    relaxation: str = ""
    strength: float = 0.0
    budget: float = math.inf

    def __post_init__(self) -> None:
        label = label_of(self.rule)
        if self.relaxation not in ("", *RELAXATIONS, *TOKEN_LEVEL):
            there_are = ", ".join(sorted([*RELAXATIONS, *TOKEN_LEVEL]))
            raise Unsupported(f"no relaxation is called {self.relaxation!r}; there are: {there_are}")
        if not math.isfinite(self.strength):
            raise InvalidInput(f"a relaxation's strength must be a number, not {self.strength}")
        if not self.budget >= 0.0:
            raise InvalidInput(f"a budget must be 0 nats or more, not {self.budget}")
        if not self.relaxation and (self.strength or self.budget < math.inf):
            raise InvalidInput("a strength or a budget needs a relaxation to go with; try relaxation certified")
        if self.relaxation and self.is_coupled:
            raise InvalidInput(f"{COUPLED} emits the target's own tokens, which nothing relaxes; take a rule such as {DEFAULT_RULE}")
        if self.relaxation in TOKEN_LEVEL and (self.budget < math.inf or self.rule not in (_ALONE, DEFAULT_RULE)):
            raise InvalidInput(f"{self.relaxation} runs as published: without a budget, and with no rule but its own")
        if self.relaxation in RELAXATIONS and label is not Label.EXACT:
            raise InvalidInput(f"{self.rule} runs as published; a relaxation goes with an exact rule, such as {DEFAULT_RULE}")
        if not self.is_coupled:
            self.decider()  # checks the strength

    @property
    def is_coupled(self) -> bool:
        """Whether drafts are coupled trees, to be walked; otherwise they are blocks, to be decided on."""
        return self.rule == COUPLED

    @property
    def label(self) -> Label:
        """What is promised of the text that is emitted."""
        if not self.relaxation:
            return label_of(self.rule)
        if self.relaxation in TOKEN_LEVEL:
            return Label.UNBOUNDED
        is_bounded = self.budget < math.inf or RELAXATIONS[self.relaxation](self.strength).is_bounded
        return Label.BOUNDED if is_bounded else Label.UNBOUNDED

    @property
    def kind(self) -> tuple[str, str, float | None]:
        """What sessions must share to be decided together: of a relaxation each may have its own strength."""
        return self.rule, self.relaxation, self.strength if self.relaxation in TOKEN_LEVEL else None

    def decider(self) -> Decider:
        """See `decider`: for sessions that all ask for this. Raises `InvalidInput` where there is nothing to decide."""
        return _decider(self, self.strength)


def decider(asked: Sequence[Acceptance]) -> Decider:
    """`(paths, coins, left [B]) -> Verdicts` for sessions that ask for `asked`, all of one kind; `left` is what each session's
    budget still holds, in nats. Raises `InvalidInput` for coupled ones: their trees are walked.
    """
    return _decider(asked[0], np.array([acceptance.strength for acceptance in asked]))


def _decider(acceptance: Acceptance, strength: Strength) -> Decider:
    if acceptance.relaxation in TOKEN_LEVEL:
        return partial(_token_level, TOKEN_LEVEL[acceptance.relaxation](acceptance.strength))
    if acceptance.is_coupled:
        raise InvalidInput(f"{COUPLED} trees are walked, not decided on: the rule takes no blocks of paths")
    relaxation = RELAXATIONS[acceptance.relaxation](strength) if acceptance.relaxation else None
    return partial(_decided, RULES[acceptance.rule].decide, relaxation)


def _decided(decide: Decide, relaxation: Relaxation | None, paths: DraftedPaths, coins: Coins, left: Floats) -> Verdicts:
    return decide(paths, coins, relaxation, left)


def _token_level(rule: TokenLevel, paths: DraftedPaths, coins: Coins, left: Floats) -> Verdicts:
    return decide_token_level(paths, rule, coins)
