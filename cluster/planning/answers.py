"""What a plan is asked for: the best way to speculate by each objective, clients at a p95, break-even round trips.

Knows settings and how to simulate them; knows nothing of how answers are shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.planning.capacity_law import CapacityLaw
from cluster.planning.configuration import OFF, Setting, Way, ways
from cluster.planning.outcome import Outcome
from cluster.planning.simulation import simulated

OBJECTIVES = {"goodput": "tokens a second", "cost": "verifier seconds a token", "energy": "joules a token at the edge"}
_CLIENT_SECONDS = 160.0  # that a simulation takes in, of all clients together
_LONGEST_S, _SHORTEST_S = 20.0, 2.5
MOST_CLIENTS = 512
_FARTHEST_S = 1.0
_HALVINGS = 9
_AS_FAST = 1.005  # by less another way is no faster: what is left of chance
_LAW_CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Carried:
    """The most clients of a verifier whose p95 is kept, 0 where not even one's is, and what that many get."""

    way: Way
    num_clients: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one setting with `num_clients`. `best` maps objectives to outcomes; `break_even_s` ways to the longest round trip at which one
    client is faster than off, None where it never is, infinite where it always is.
    """

    setting: Setting
    num_clients: int
    p95_s: float
    outcomes: tuple[Outcome, ...]
    best: dict[str, Outcome]
    carried: tuple[Carried, ...]
    break_even_s: dict[Way, float | None]
    law: CapacityLaw | None

    @property
    def conflict(self) -> bool:
        """Whether no way is the best by every objective (as ConfigSpec found)."""
        return len({outcome.way for outcome in self.best.values()}) > 1


def answered(setting: Setting, num_clients: int, p95_s: float) -> Answers:
    """Simulates every way there is. Takes seconds."""
    outcomes = tuple(_simulated(setting, way, num_clients) for way in ways(setting.acceptance))
    best = {objective: best_by(objective, outcomes) for objective in OBJECTIVES}
    fastest = [best_by("goodput", [each for each in outcomes if each.way.mode == mode]).way for mode in ("wait", "stream")]
    tried = list(dict.fromkeys([OFF, *fastest, best["cost"].way]))
    carried = tuple(_carried(setting, way, p95_s) for way in tried)
    break_even = {way: break_even_s(setting, way) for way in fastest}
    return Answers(setting, num_clients, p95_s, outcomes, best, carried, break_even, _law(setting, best["cost"].way))


def best_by(objective: str, outcomes: Sequence[Outcome]) -> Outcome:
    """By one of OBJECTIVES."""
    return min(outcomes, key=lambda outcome: cost_by(objective, outcome))


def cost_by(objective: str, outcome: Outcome) -> float:
    """Less is better."""
    match objective:
        case "goodput":
            return 1.0 / outcome.tokens_per_s
        case "cost":
            return outcome.verifier_s_per_token
    return outcome.joules_per_token


def break_even_s(setting: Setting, way: Way) -> float | None:
    """See `Answers.break_even_s`."""

    def is_faster(round_trip_s: float) -> bool:
        link = replace(setting.link, round_trip_s=round_trip_s, jitter_s=0.0)
        at = replace(setting, link=link)
        ours, theirs = (_simulated(at, each, 1).tokens_per_s for each in (way, OFF))
        return ours > _AS_FAST * theirs

    if not is_faster(0.0):
        return None
    near, far = 0.0, _FARTHEST_S
    if is_faster(far):
        return math.inf
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        near, far = (middle, far) if is_faster(middle) else (near, middle)
    return near


def _carried(setting: Setting, way: Way, p95_s: float) -> Carried:
    """By doubling, then halving the last step: more clients are slower."""
    fits, outcome = 0, _simulated(setting, way, 1)
    if outcome.time_per_token_s_p95 > p95_s:
        return Carried(way, 0, outcome)
    fits, too_many = 1, 2
    while too_many <= MOST_CLIENTS and (tried := _simulated(setting, way, too_many)).time_per_token_s_p95 <= p95_s:
        fits, outcome, too_many = too_many, tried, 2 * too_many
    too_many = min(too_many, MOST_CLIENTS + 1)
    while too_many - fits > max(1, fits // 16):
        middle = (fits + too_many) // 2
        tried = _simulated(setting, way, middle)
        if tried.time_per_token_s_p95 <= p95_s:
            fits, outcome = middle, tried
        else:
            too_many = middle
    return Carried(way, fits, outcome)


def _simulated(setting: Setting, way: Way, num_clients: int) -> Outcome:
    seconds = min(_LONGEST_S, max(_SHORTEST_S, _CLIENT_SECONDS / num_clients))
    return simulated(setting, way, num_clients, seconds=seconds)


def _law(setting: Setting, way: Way) -> CapacityLaw | None:
    """A chain as long as a tree brings tokens, of one session a step."""
    verifier = setting.verifier
    if verifier.draft_forward is None or not way.num_nodes:
        return None
    gamma = max(1, round(setting.acceptance.tokens_per_tree(way.num_nodes)))
    return CapacityLaw(gamma, verifier.draft_forward.at(1), verifier.step_s(1 + gamma, 1))


def law_simulated(law: CapacityLaw) -> float:
    """With clients enough to keep the verifier busy."""
    return law.simulated(_LAW_CLIENTS)
