"""Claim: along texts of the demo pair the tuner brings at least 0.95 of the tokens a second of the best fixed plan, over links of any
delay, before quick verifiers and slow ones, and no less than the cloud alone.

What `cactus bench link` asks of real processes, without the machine's noise: the target writes texts once, the draft is asked at each of
their places for the largest tree there is, and what of it came true is played in virtual time over every link with every plan. What
steps, drafts and round trips take is given, and *emulated*. The best fixed plan is found by exhaustive search, in hindsight, over the very
texts that it is then compared on; the tuner knows none of them beforehand.
Refuted by: a median `share_of_best_fixed` below 0.95, or a `speedup_vs_plain` below 0.97.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.capacity import written
from benchmarks.drafters import demo_drafter
from benchmarks.lockstep import running_engine
from benchmarks.medians import add_median
from benchmarks.prompts import PROMPTS
from benchmarks.table import Table, interval, rows_of, write_into
from benchmarks.targets import demo
from benchmarks.virtual_stream import Places, RecordedWorld, Run, run_in_virtual_time
from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED
from cluster.figures import Case, Figures
from cluster.link_profile import PROFILES
from cluster.planning.drafted_along import WrittenText, true_path
from edge.tuning.forecasting import SIZES
from edge.tuning.plan import DEEPEST, OFF, TreePlan
from edge.tuning.tree_tuner import TreeTuner

LEAST = {"share_of_best_fixed": 0.95, "speedup_vs_plain": 0.97}
_TEMPERATURES = (0.7, 1.0)
_BESIDES_S = 0.0005  # of a round trip, what the two ends add to the link's
# Milliseconds of a step by the nodes it reads, and of a draft by those it has, as the demo pair has them on a core each.
_STEP_MS = {"as it is": (10.5, 0.35), "padded to 30 ms": (30.0, 0.0)}
_DRAFT_MS = (2.5, 0.05)
_SPREAD = 0.1  # of what drafts take, about their mean; steps have a fifth of it, upwards
_STEPS_AT, _ROUNDS_TO_ADAPT = 0.25, 20  # where in a text the link becomes another one, and the decisions that the tuner then has

Text = tuple[Places, ...]  # of each place, the true path in the largest tree that is drafted there


def run(*, quick: bool) -> Figures:
    """Measures everything. A progress bar shows on a terminal."""
    figures = Figures("tuner")
    temperatures = _TEMPERATURES[:1] if quick else _TEMPERATURES
    num_texts, num_tokens, num_orders = (3, 48, 1) if quick else (18, 96, 3)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=len(temperatures) * (num_texts + (1 + len(PROFILES)) * len(_STEP_MS)))
        for temperature in temperatures:
            texts = recorded(range(num_texts), num_tokens, temperature, lambda: progress.advance(bar))
            for step in _STEP_MS:
                for profile in PROFILES:
                    _compare(figures, Setting(step, profile, temperature), texts, num_orders)
                    progress.advance(bar)
                _change_the_link(figures, step, temperature, texts)
                progress.advance(bar)
    return figures


def show(figures: Figures) -> None:
    for table in tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Writes the table into the folder's link.md, where it has one."""
    if (page := folder / "link.md").exists():
        write_into(page, tables(figures))
        print(f"wrote the tuner's table of {page}")


def tables(figures: Figures) -> list[Table]:
    rows = []
    for row in rows_of(figures, "share_of_best_fixed"):
        case = row["case"]
        where = {name: case[name] for name in ("step", "profile", "temperature")}
        gains = [interval(found) for found in rows_of(figures, "speedup_vs_plain", **where)] or [""]
        best = case["best"] if case["best"] == "off" else f"{case['best']}, {case['nodes']} nodes"
        rows.append((str(case["step"]), str(case["profile"]), f"{case['temperature']:g}", best, interval(row), *gains))
    header = ("verifier", "link", "temperature", "best plan", "share of it", "times the cloud alone")
    return [Table("virtual-tuner", "the tuner against the best fixed plan, in virtual time", header, tuple(rows))]


def recorded(numbers: Sequence[int], num_tokens: int, temperature: float, advance: Callable[[], None]) -> list[Text]:
    """The demo target's texts after these prompts, and how far the demo draft's trees come true at each place of them."""
    served, drafter, texts = demo(), demo_drafter(), []
    with served.threads(), running_engine(served.target, 64) as engine:
        for number in numbers:
            prompt = served.target.tokenizer(PROMPTS[number % len(PROMPTS)]).input_ids
            request = served.request(prompt, num_tokens, temperature=temperature, seed=number)
            [tokens] = written(engine, [replace(request, acceptance=Acceptance(COUPLED), decode_alone=True)], num_tokens)
            text = WrittenText(tuple(tokens), len(prompt), request.sampling, number)
            texts.append(tuple(tuple(true_path(drafter, text, base, SIZES[-1])) for base in range(len(prompt), len(tokens))))
            advance()
    return texts


@dataclass(frozen=True)
class Setting:
    """A verifier, a link and a temperature."""

    step: str
    profile: str
    temperature: float

    @property
    def round_trip_s(self) -> float:
        return PROFILES[self.profile].round_trip_s + _BESIDES_S

    def world(self, text: Text, seed: int, round_trip_s: Callable[[float], float] | None = None) -> RecordedWorld:
        rng = np.random.default_rng(seed)
        step, draft = _STEP_MS[self.step], _DRAFT_MS
        return RecordedWorld(
            round_trip_s or (lambda now: self.round_trip_s),
            lambda nodes: (step[0] + step[1] * nodes) / 1e3 * math.exp(abs(rng.normal(0.0, _SPREAD / 5))),
            lambda nodes: (draft[0] + draft[1] * nodes) / 1e3 * math.exp(rng.normal(0.0, _SPREAD)),
            recorded=text,
        )

    def fixed(self, plan: TreePlan, text: Text, seed: int) -> Run:
        return run_in_virtual_time(self.world(text, seed), TreeTuner(fixed=plan), len(text))

    @property
    def case(self) -> Case:
        return {
            "system": "cactus",
            "pair": "demo",
            "emulated": True,
            "step": self.step,
            "profile": self.profile,
            "temperature": self.temperature,
        }


class _InHindsight:
    """What every plan brings along the same texts."""

    def __init__(self, setting: Setting, texts: Sequence[Text]) -> None:
        self._setting, self._texts = setting, texts

    @cached_property
    def _took_s(self) -> dict[TreePlan, list[float]]:
        return {plan: [self._setting.fixed(plan, text, seed).times[-1] for seed, text in enumerate(self._texts)] for plan in plans()}

    @property
    def best(self) -> TreePlan:
        return min(self._took_s, key=lambda plan: sum(self._took_s[plan]))

    def took_s(self, plan: TreePlan) -> list[float]:
        """Of each text."""
        return self._took_s[plan]


def plans() -> list[TreePlan]:
    return [OFF, *(TreePlan(size, DEEPEST, wait_s) for size in SIZES for wait_s in (0.0, math.inf))]


def _compare(figures: Figures, setting: Setting, texts: Sequence[Text], num_orders: int) -> None:
    """Every text after the first of each order, along which the tuner learns what it knows of nothing else."""
    known = _InHindsight(setting, texts)
    best, alone = known.took_s(known.best), known.took_s(OFF)
    shares, gains = [], []
    for order in range(num_orders):
        tuner = TreeTuner()
        for place, number in enumerate(np.random.default_rng(order).permutation(len(texts)).tolist()):
            seed = number + len(texts) * (1 + order)
            took_s = run_in_virtual_time(setting.world(texts[number], seed), tuner, len(texts[number])).times[-1]
            if place:
                shares.append(best[number] / took_s)
                gains.append(alone[number] / took_s)
    case = setting.case | {"best": known.best.mode, "nodes": known.best.num_nodes}
    add_median(figures, case, "share_of_best_fixed", shares, "share")
    add_median(figures, case, "speedup_vs_plain", gains, "times")


def _change_the_link(figures: Figures, step: str, temperature: float, texts: Sequence[Text]) -> None:
    """Along four texts on end the near link becomes a far one; against the best plan for that."""
    near, far = (Setting(step, profile, temperature) for profile in ("near", "far"))
    long = [tuple(itertools.chain.from_iterable(texts[first : first + 4])) for first in range(0, len(texts) - 3, 4)] or [texts[0]]
    best = _InHindsight(far, long).best
    shares = [_share_after_the_change(near, far, best, text, seed) for seed, text in enumerate(long)]
    case = near.case | {"profile": "near, then far", "best": best.mode, "nodes": best.num_nodes, "rounds_to_adapt": _ROUNDS_TO_ADAPT}
    add_median(figures, case, "share_of_best_fixed", shares, "share")


def _share_after_the_change(near: Setting, far: Setting, best: TreePlan, text: Text, seed: int) -> float:
    """From the 20th decision on."""
    changes_at = _STEPS_AT * run_in_virtual_time(near.world(text, seed), TreeTuner(), len(text)).times[-1]
    stepped = near.world(text, seed, lambda now: (near if now < changes_at else far).round_trip_s)
    tuned = run_in_virtual_time(stepped, TreeTuner(), len(text)).times
    later = sorted({moment for moment in tuned if moment > changes_at})
    first = tuned.index(later[min(_ROUNDS_TO_ADAPT, len(later) // 2)])
    fixed = far.fixed(best, text, seed).times
    return (fixed[-1] - fixed[first]) / (tuned[-1] - tuned[first])
