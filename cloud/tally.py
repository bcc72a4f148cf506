"""What a verifier has done since it started, counted where it is done: a few additions a decision, none a token.

Knows numbers; knows nothing of who reads them. One thread counts; others may read at any time, and may see a decision half counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TOKENS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


@dataclass(slots=True)
class Distribution:
    """How many of the values that came were at most each of `bounds`, ascending, and what all of them add up to."""

    bounds: Sequence[float]
    counts: list[int] = field(init=False)  # of values above the bound before, at most this one; the last: above all
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class RuleTally:
    """Of decisions on drafts by one rule. `accepted` counts them by how many drafted tokens stood; `divergence` is in nats."""

    num_drafts: int = 0
    num_draft_tokens: int = 0
    accepted: Counter[int] = field(default_factory=Counter)
    divergence: float = 0.0


@dataclass(slots=True)
class Tally:
    """`evictions` are idle sessions whose pages others got, `preemptions` those that waited and have to start over. Of the texts that
    were taken up, `num_looked_up` tokens were looked for among the pages that are known, and `num_found` there.
    """

    rules: dict[str, RuleTally] = field(default_factory=dict)
    step_s: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    step_tokens: Distribution = field(default_factory=lambda: Distribution(_TOKENS))
    queue_s: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    num_evictions: int = 0
    num_preemptions: int = 0
    num_looked_up: int = 0
    num_found: int = 0

    def stepped(self, took_s: float, num_tokens: int) -> None:
        self.step_s.add(took_s)
        self.step_tokens.add(num_tokens)

    def decided(self, rule: str, num_drafted: int, num_accepted: int, divergence: float, queue_s: float) -> None:
        """On `num_drafted` tokens; 0 where the model decoded alone, which is no draft."""
        self.queue_s.add(queue_s)
        of_rule = self.rules.get(rule)
        if of_rule is None:
            of_rule = self.rules[rule] = RuleTally()
        of_rule.divergence += divergence
        if num_drafted:
            of_rule.num_drafts += 1
            of_rule.num_draft_tokens += num_drafted
            of_rule.accepted[num_accepted] += 1
