"""Claim: `cactus plan` foretells what `cactus simulate` measures within 15%: tokens a second and the p95 of the time per token.

The real system runs on this machine behind an emulated link, before a verifier whose steps are padded to 30 ms. What the simulation is
given was measured of its parts in that run: how far trees come true from each place of the very texts that were written (they are drafted
along again), how long drafting and steps took, and the round trip. So the figures judge how the simulation puts parts together, and no
profile.
Refuted by: a `planned_over_measured` below 0.85 or above 1.15.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
from rich.console import Console

from benchmarks.drafters import demo_drafter
from benchmarks.table import Table, number, rows_of, write_into
from cactus_core.demo_pair import demo_model
from cactus_core.sampling import SamplingParams
from cluster.comparison import Taken
from cluster.figures import Case, Figures
from cluster.link_profile import LinkProfile, profile_named
from cluster.planning.acceptance_curve import AcceptanceCurve
from cluster.planning.configuration import OFF, Setting, Way
from cluster.planning.device_profile import DeviceProfile
from cluster.planning.drafted_along import DraftedAlong, WrittenText
from cluster.planning.simulation import simulated
from cluster.planning.verifier_profile import VerifierProfile
from cluster.simulate import Simulated, SimulateOptions, run_simulation
from edge.tokenizer import Tokenizer
from edge.tuning.plan import DEEPEST, TreePlan

_DELAY_MS = 30.0
_TEMPERATURE = 0.7
_NODES = 16
_SEED = 1
_NEAR_THE_END = 16  # tokens before a text's end, from which no tree is known to have led further
_AT_LEAST, _AT_MOST = 0.85, 1.15


def run(*, quick: bool) -> Figures:
    """Measures, then foretells what was measured."""
    figures = Figures("plan")
    links, edges, num_tokens = (("near",), (2,), 96) if quick else (("near", "regional", "far"), (1, 2), 192)
    for link in links:
        for num_edges in edges:
            options = SimulateOptions(link, num_edges, _DELAY_MS, num_tokens, _TEMPERATURE, _SEED)
            waited, streamed = (
                asyncio.run(run_simulation(replace(options, tree=TreePlan(_NODES, DEEPEST, wait_s)))) for wait_s in (math.inf, 0.0)
            )
            device = _device(waited.comparison.drafted)
            _compare(figures, waited, device, OFF)
            _compare(figures, waited, device, Way("wait", _NODES))
            _compare(figures, streamed, device, Way("stream", _NODES))
    return figures


def _compare(figures: Figures, done: Simulated, device: DeviceProfile, way: Way) -> None:
    options, found = done.options, done.comparison
    taken = found.alone if way == OFF else found.drafted
    stretches = [_stretch(each) for each in taken]
    setting = Setting(device, _link(options, found.drafted), _verifier(found.alone, taken), _acceptance(options, found.drafted))
    planned = simulated(setting, way, options.num_edges, seconds=120.0)
    case: Case = {"pair": "demo", "profile": options.link, "clients": options.num_edges, "mode": way.mode, "nodes": way.num_nodes}
    case |= {"temperature": options.temperature, "verifier_delay_ms": options.verifier_delay_ms, "emulated": True}
    # Equal clients in the plan are one client on average: all their tokens in all their time.
    pace = len(taken) * sum(num for num, _, _ in stretches) / sum(seconds for _, seconds, _ in stretches)
    p95_s = float(np.quantile([apart for _, _, per_token in stretches for apart in per_token], 0.95))
    for metric, foretold, measured, unit in (
        ("tokens_per_s", planned.tokens_per_s, pace, "tokens/s"),
        ("time_per_token_ms_p95", planned.time_per_token_s_p95 * 1e3, p95_s * 1e3, "ms"),
    ):
        figures.add(case | {"system": "planned"}, metric, foretold, unit)
        figures.add(case | {"system": "measured"}, metric, measured, unit)
        figures.add(case | {"of": metric}, "planned_over_measured", foretold / measured, "times")


def _stretch(taken: Taken) -> tuple[int, float, list[float]]:
    """Tokens, seconds, and seconds per token of a text from the first of its drafts that stood to near its end: what a plan is of."""
    rounds = taken.rounds
    first = next((number for number, done in enumerate(rounds) if done["num_accepted"]), 1)
    num_left = np.cumsum([done["num_tokens"] for done in rounds][::-1])[::-1]
    last = max(first + 1, int((num_left > _NEAR_THE_END).sum()) - 1)
    apart = [(done["at_s"] - before["at_s"], done["num_tokens"]) for before, done in pairwise(rounds[first : last + 1])]
    per_token = [seconds / num for seconds, num in apart for _ in range(num)]
    return sum(num for _, num in apart), sum(seconds for seconds, _ in apart), per_token


def _device(waited: Sequence[Taken]) -> DeviceProfile:
    """By trees that were each drafted anew."""
    took = [done["draft_s"] for taken in waited for done in taken.rounds[2:] if done["num_drafted"]]
    return DeviceProfile("measured", {_NODES: fmean(took)}, pstdev(took) / fmean(took))


def _link(options: SimulateOptions, drafted: Sequence[Taken]) -> LinkProfile:
    """With what the system's own parts add to a round trip, as the tuner measured it."""
    emulated = profile_named(options.link)
    trips = [taken.summary.speculation["round_trip_ms"] for taken in drafted]
    measured_s = fmean(trip for trip in trips if isinstance(trip, float)) / 1e3
    return replace(emulated, round_trip_s=max(measured_s, emulated.round_trip_s))


def _verifier(alone: Sequence[Taken], taken: Sequence[Taken]) -> VerifierProfile:
    """From one step to the next: what a step takes in this run, and what lies between two where the cloud decodes alone."""
    cycles = [done["at_s"] - before["at_s"] for each in alone for before, done in pairwise(each.rounds)]
    between = fmean(cycles) - _step_s(alone)
    return VerifierProfile("measured", {1: _step_s(taken) + between})


def _step_s(taken: Sequence[Taken]) -> float:
    return fmean(done["verify_s"] for each in taken for done in each.rounds[1:])


def _acceptance(options: SimulateOptions, drafted: Sequence[Taken]) -> AcceptanceCurve:
    """Along the texts that were written, drafted again."""
    tokenizer, along = Tokenizer.load(Path(demo_model("draft"))), DraftedAlong()
    for number_of, taken in enumerate(drafted):
        prompt = tokenizer.encode(options.prompts[number_of % len(options.prompts)])
        text = WrittenText((*prompt, *taken.tokens), len(prompt), SamplingParams(options.temperature), options.seed + number_of)
        along.add(demo_drafter(), text, (_NODES,))
    return AcceptanceCurve("measured", along.reach)


def tables(figures: Figures) -> list[Table]:
    rows = []
    for row in rows_of(figures, "planned_over_measured"):
        case = row["case"]
        own = {key: value for key, value in case.items() if key != "of"}
        planned, measured = (rows_of(figures, case["of"], **own, system=system)[0] for system in ("planned", "measured"))
        way = f"{case['mode']}, {case['nodes']}" if case["nodes"] else case["mode"]
        fits = "yes" if _AT_LEAST <= row["value"] <= _AT_MOST else "no"
        rows.append((case["profile"], str(case["clients"]), way, case["of"], number(planned), number(measured), number(row), fits))
    header = ("link", "clients", "clients speculate", "figure", "planned", "measured", "planned / measured", "within 15%")
    return [
        Table("plan", "What `cactus plan` foretells, and what `cactus simulate` measures (30 ms a step, emulated)", header, tuple(rows))
    ]


def show(figures: Figures) -> None:
    """Prints the table."""
    for table in tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Writes the table into the folder's planning.md, where it has one."""
    if (page := folder / "planning.md").exists():
        write_into(page, tables(figures))
        print(f"wrote the tables of {page}")
