"""Claim: the tuner's plans bring at least 0.95 of the tokens a second of the best fixed plan, over every link, and are as good again
within 20 rounds of the delay stepping from 10 to 90 ms.

The best fixed plan is found by exhaustive search over sizes of trees and ways to wait, on other prompts than those on which it is then
compared, in turn with the tuner, whose client has answered one request before. After the step the tuner's pace from the 20th
decision on is compared with the best plan for 90 ms, along the same text.
Refuted by: a `share_of_best_fixed` below 0.95.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.drafters import demo_drafter
from benchmarks.link_process import RemoteLink
from benchmarks.link_systems import Question, ThroughClient
from benchmarks.medians import add_median
from benchmarks.over_links import profiles
from cluster.figures import Case, Figures
from edge.link import Endpoint
from edge.tuning.plan import DEEPEST, OFF, TreePlan

_TEMPERATURE = 0.7
_FIRST_OTHER = 20  # of the prompts that plans are searched on
_ROUNDS_TO_ADAPT = 20


def plans(*, quick: bool) -> list[TreePlan]:
    sizes = (16,) if quick else (8, 16, 32, 64)
    return [OFF, *(TreePlan(size, DEEPEST, wait_s) for size in sizes for wait_s in (0.0, math.inf))]


def num_units(*, quick: bool) -> int:
    """Per verifier."""
    return len(_profiles(quick=quick))


def _profiles(*, quick: bool) -> tuple[str, ...]:
    return ("near",) if quick else profiles(quick=False)


async def measure(figures: Figures, link: RemoteLink, verifier_ms: float, *, quick: bool, advance: Callable[[], None]) -> None:
    num_tokens, num_searched, num_compared = (48, 1, 1) if quick else (96, 1, 11)
    best: dict[str, TreePlan] = {}
    for profile in _profiles(quick=quick):
        link.set_profile(profile)
        async with Endpoint(link.address) as endpoint:
            await endpoint.describe()
            found: dict[TreePlan, float] = {}
            for plan in plans(quick=quick):
                system = ThroughClient(demo_drafter(), tree=plan)
                samples = [
                    await system.sample(endpoint, Question(_FIRST_OTHER + number, num_tokens, _TEMPERATURE))
                    for number in range(num_searched)
                ]
                found[plan] = sum(sample.num_tokens for sample in samples) / sum(sample.wall_s for sample in samples)
            best[profile] = max(found, key=lambda plan: found[plan])
            tuned, fixed = ThroughClient(demo_drafter()), ThroughClient(demo_drafter(), tree=best[profile])
            await tuned.sample(endpoint, Question(_FIRST_OTHER, num_tokens, _TEMPERATURE))
            shares = []
            for number in range(num_compared):
                asked = Question(number, num_tokens, _TEMPERATURE)
                pair = [await system.sample(endpoint, asked) for system in ((tuned, fixed) if number % 2 else (fixed, tuned))]
                ours, theirs = pair if number % 2 else pair[::-1]
                shares.append(ours.tokens_per_s / theirs.tokens_per_s)
        case: Case = {"system": "cactus", "profile": profile, "verifier_delay_ms": verifier_ms, "temperature": _TEMPERATURE, "pair": "demo"}
        case |= {"emulated": True, "best": best[profile].mode, "nodes": best[profile].num_nodes}
        add_median(figures, case, "share_of_best_fixed", shares, "share")
        advance()
    if verifier_ms and {"near", "far"} <= best.keys():
        await _step(figures, link, verifier_ms, best["far"])


async def _step(figures: Figures, link: RemoteLink, verifier_ms: float, best: TreePlan) -> None:
    """In the middle of a text the link becomes a far one."""
    shares = []
    num_tokens = 320
    for number in range(5):
        paces = []
        for tree in (None, best):
            link.set_profile("near")
            async with Endpoint(link.address) as endpoint:
                system = ThroughClient(demo_drafter(), tree=tree)
                await system.sample(endpoint, Question(_FIRST_OTHER, 48, _TEMPERATURE))
                asked = Question(number, num_tokens, _TEMPERATURE)
                sample = await system.sample(endpoint, asked, at_token=(num_tokens // 4, lambda: link.set_profile("far")))
            paces.append(sample.pace_after(num_tokens // 4, _ROUNDS_TO_ADAPT))
        shares.append(paces[0] / paces[1])
    case: Case = {
        "system": "cactus",
        "profile": "near, then far",
        "verifier_delay_ms": verifier_ms,
        "temperature": _TEMPERATURE,
        "pair": "demo",
    }
    case |= {"emulated": True, "rounds_to_adapt": _ROUNDS_TO_ADAPT, "best": best.mode, "nodes": best.num_nodes}
    add_median(figures, case, "share_of_best_fixed", shares, "share")
