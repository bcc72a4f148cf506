"""Claim: over every link and before every verifier, a user of this system waits no longer than with plain cloud decoding, and where a
step of the verifier takes 30 ms, far less: 2.5, 1.5 and 1.2 times as many tokens a second at 10, 40 and 90 ms of round trip; and 1.25
times those of stop-and-wait with dense laws; for a five-hundredth of the bytes up where few may be sent (`frugal`).

Edge, link and verifier are three processes; the link is *emulated*, and so are the 30 ms, which a step of the demo target is padded to.
All systems complete the same prompts with the same seeds, in turn. `cactus` knows nothing beforehand: the request in which it learns
counts. The naive system has the better of two block lengths. Co-located speculation is this system at the verifier's side, its
tokens streamed to the user: its pace does not depend on the link, its first token comes a round trip later.
Refuted by: a `speedup_vs_plain` below 0.97 anywhere, or below 2.5, 1.5, 1.2 with the padded verifier at temperature 0.7; a
`speedup_vs_naive` below 1.25; an `up_bytes_fewer_than_naive` of `frugal` below 500.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from benchmarks.drafters import demo_drafter, random_drafter
from benchmarks.link_process import RemoteLink, Traffic
from benchmarks.link_systems import Naive, Question, Sample, ThroughClient
from benchmarks.medians import add_median
from cluster.figures import Case, Figures
from cluster.link_profile import PROFILES
from edge.link import Endpoint

NAIVE_LENGTHS = (3, 6)
TEMPERATURES = (0.7, 1.0)  # of the second only what is compared with the cloud alone
VERIFIERS_MS = (0.0, 30.0)
LEAST = {("near", 30.0): 2.5, ("regional", 30.0): 1.5, ("far", 30.0): 1.2}  # at temperature 0.7; elsewhere LEAST_ANYWHERE
LEAST_ANYWHERE = 0.97
_FEW = 6
# A token, of a user who pays by the byte: requests and a first text's learning add some, and stop and wait sends 500 times 27.
FRUGAL_BYTES = 20.0


class _System(Protocol):
    async def sample(self, endpoint: Endpoint, asked: Question) -> Sample: ...


@dataclass(slots=True)
class Taken:
    """Of one system: a sample a question, and what went over the link for all of them."""

    samples: list[Sample] = field(default_factory=list)
    traffic: list[Traffic] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return sum(sample.num_tokens for sample in self.samples)

    @property
    def tokens_per_s(self) -> list[float]:
        return [sample.tokens_per_s for sample in self.samples]


def profiles(*, quick: bool) -> tuple[str, ...]:
    return ("near", "far") if quick else tuple(PROFILES)


def questions(temperature: float, verifier_ms: float, *, quick: bool) -> list[Question]:
    """More where steps are as they are: there a text's time wavers by a tenth, and a hundredth is what is asked for."""
    count = 18 if not verifier_ms else _FEW if temperature == TEMPERATURES[0] else 4
    return [Question(number, 48 if quick else 96, temperature) for number in range(1 if quick else count)]


def num_units(verifier_ms: float, *, quick: bool) -> int:
    counts = [len(questions(temperature, verifier_ms, quick=quick)) for temperature in _temperatures(quick=quick)]
    return len(profiles(quick=quick)) * sum(counts)


def _temperatures(*, quick: bool) -> tuple[float, ...]:
    return TEMPERATURES[:1] if quick else TEMPERATURES


def _is_asked(name: str, number: int) -> bool:
    """Whether a system completes the `number`-th prompt: what is compared, but drafting in the cloud, which is there to be looked at."""
    return number < _FEW or name != "colocated"


async def measure(
    figures: Figures, verifier: str, link: RemoteLink, verifier_ms: float, *, quick: bool, advance: Callable[[], None]
) -> None:
    """Every system over every profile, the verifier at `verifier` padded to `verifier_ms`."""
    for profile in profiles(quick=quick):
        link.set_profile(profile)
        for temperature in _temperatures(quick=quick):
            is_whole = temperature == TEMPERATURES[0]
            systems = _systems(quick=quick, is_whole=is_whole)
            taken = {name: Taken() for name in systems}
            async with Endpoint(link.address) as over_link, Endpoint(verifier) as beside:
                for endpoint in (over_link, beside):
                    await endpoint.describe()  # connections stand, for everybody
                for asked in questions(temperature, verifier_ms, quick=quick):
                    for name in _in_turn([name for name in systems if _is_asked(name, asked.number)], asked.number):
                        link.traffic()
                        taken[name].samples.append(await systems[name].sample(beside if name == "colocated" else over_link, asked))
                        taken[name].traffic.append(link.traffic())
                    advance()
            _report(figures, taken, {"profile": profile, "verifier_delay_ms": verifier_ms, "temperature": temperature, "pair": "demo"})


def _systems(*, quick: bool, is_whole: bool) -> dict[str, _System]:
    compared: dict[str, _System] = {
        "plain": ThroughClient(None),
        "cactus": ThroughClient(demo_drafter()),
        "worst_drafter": ThroughClient(random_drafter()),
    }
    if not is_whole:
        return compared
    lengths = NAIVE_LENGTHS[:1] if quick else NAIVE_LENGTHS
    return {
        **compared,
        "frugal": ThroughClient(demo_drafter(), max_bytes_up=FRUGAL_BYTES),
        **{f"naive{length}": Naive(demo_drafter(), length) for length in lengths},
        "colocated": ThroughClient(demo_drafter()),
    }


def _in_turn(names: Sequence[str], number: int) -> list[str]:
    """Each goes first as often as the others."""
    start = number % len(names)
    return [*names[start:], *names[:start]]


def _report(figures: Figures, taken: dict[str, Taken], where: Case) -> None:
    where = where | {"emulated": True}
    naive = max(
        (name for name in taken if name.startswith("naive")), key=lambda name: float(np.median(taken[name].tokens_per_s)), default=""
    )
    round_trip_s = PROFILES[str(where["profile"])].round_trip_s
    for name, own in taken.items():
        if name.startswith("naive") and name != naive:
            continue
        case = where | {"system": "naive" if name == naive else "cactus" if name == "worst_drafter" else name}
        case |= {"L": int(name[5:])} if name == naive else {}
        case |= {"drafter": "random" if name == "worst_drafter" else "demo"} if name != "plain" else {}
        add_median(figures, case, "tokens_per_s", own.tokens_per_s, "tokens/s")
        late_s = round_trip_s if name == "colocated" else 0.0
        add_median(figures, case, "ttft_ms", [1e3 * (sample.ttft_s + late_s) for sample in own.samples], "ms")
        per_token = np.concatenate([sample.per_token_s for sample in own.samples])
        for at in (50, 95):
            figures.add(case, f"time_per_token_ms_p{at}", float(1e3 * np.percentile(per_token, at)), "ms")
        figures.add(case, "tokens_per_round", own.num_tokens / sum(sample.num_rounds for sample in own.samples), "tokens")
        figures.add(case, "verifier_s_per_token", sum(sample.verify_s for sample in own.samples) / own.num_tokens, "s")
        if name != "colocated":  # nothing of it went over this link
            for metric, count in (("up_bytes_per_token", "up_bytes"), ("down_bytes_per_token", "down_bytes")):
                figures.add(case, metric, sum(getattr(each, count) for each in own.traffic) / own.num_tokens, "bytes")
            figures.add(case, "messages_per_token", sum(each.num_messages for each in own.traffic) / own.num_tokens, "messages")
        if name != "plain":
            _compare(figures, case, own, taken["plain"], "speedup_vs_plain")
        if name in {"cactus", "frugal"} and naive:
            _compare(figures, case, own, taken[naive], "speedup_vs_naive")
            up = [sum(each.up_bytes for each in of.traffic) / of.num_tokens for of in (taken[naive], own)]
            figures.add(case, "up_bytes_fewer_than_naive", up[0] / up[1], "times")


def _compare(figures: Figures, case: Case, own: Taken, other: Taken, metric: str) -> None:
    ratios = [a / b for a, b in zip(own.tokens_per_s, other.tokens_per_s, strict=False)]  # the first prompts are everybody's
    add_median(figures, case, metric, ratios, "times")
