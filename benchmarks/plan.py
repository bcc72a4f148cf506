"""Claim: `cactus plan` foretells what `cactus simulate` measures within 15%: tokens a second and the p95 of the time per token.

The real system runs on this machine behind an emulated link, before a verifier whose steps are padded to 30 ms. What the simulation is
given was measured of its parts: how far trees come true along the very texts that were written (anyone can draft along them again), how long
drafting took and how long steps took in that run. So the figures judge how the simulation puts parts together, not a profile.
Refuted by: a `planned_over_measured` below 0.85 or above 1.15.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.drafters import demo_drafter
from benchmarks.table import Table, number, rows_of, write_into
from cactus_core.demo_pair import demo_model
from cactus_core.sampling import SamplingParams
from cluster.comparison import Sums, Taken
from cluster.figures import Case, Figures
from cluster.link_profile import profile_named
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
_AT_LEAST, _AT_MOST = 0.85, 1.15


def run(*, quick: bool) -> Figures:
    """Measures, then foretells what was measured."""
    figures = Figures("plan")
    links, edges, num_tokens = (("near",), (2,), 96) if quick else (("near", "regional", "far"), (1, 2), 192)
    for link in links:
        for num_edges in edges:
            for mode, wait_s in (("wait", math.inf), ("stream", 0.0)):
                options = SimulateOptions(
                    link, num_edges, _DELAY_MS, num_tokens, _TEMPERATURE, _SEED, tree=TreePlan(_NODES, DEEPEST, wait_s)
                )
                _compare(figures, asyncio.run(run_simulation(options)), Way(mode, _NODES))
    return figures


def _compare(figures: Figures, done: Simulated, way: Way) -> None:
    options, found = done.options, done.comparison
    setting = Setting(
        DeviceProfile("measured", {_NODES: _draft_s(found.drafted)}),
        profile_named(options.link),
        VerifierProfile("measured", {1: _verify_s(found.alone)}, step_at_least_s=options.verifier_delay_ms / 1e3),
        _acceptance(options, found.drafted),
    )
    for tried, taken in ((OFF, found.alone), (way, found.drafted)):
        planned = simulated(setting, tried, options.num_edges, seconds=60.0)
        case: Case = {"pair": "demo", "profile": options.link, "clients": options.num_edges, "mode": tried.mode, "nodes": tried.num_nodes}
        case |= {"temperature": options.temperature, "verifier_delay_ms": options.verifier_delay_ms, "emulated": True}
        p95_s = Sums(taken).quantile_s(0.95) or math.nan
        for metric, foretold, measured, unit in (
            ("tokens_per_s", planned.tokens_per_s, sum(map(_pace, taken)), "tokens/s"),
            ("time_per_token_ms_p95", planned.time_per_token_s_p95 * 1e3, p95_s * 1e3, "ms"),
        ):
            figures.add(case | {"system": "planned"}, metric, foretold, unit)
            figures.add(case | {"system": "measured"}, metric, measured, unit)
            figures.add(case | {"of": metric}, "planned_over_measured", foretold / measured, "times")


def _pace(taken: Taken) -> float:
    """Tokens a second of one text, from its first decision on."""
    first, last = taken.rounds[0], taken.rounds[-1]
    return float((len(taken.tokens) - first["num_tokens"]) / (last["at_s"] - first["at_s"]))


def _draft_s(drafted: Sequence[Taken]) -> float:
    return median(done["draft_s"] for taken in drafted for done in taken.rounds[1:] if done["num_drafted"])


def _verify_s(alone: Sequence[Taken]) -> float:
    return median(done["verify_s"] for taken in alone for done in taken.rounds)


def _acceptance(options: SimulateOptions, drafted: Sequence[Taken]) -> AcceptanceCurve:
    """Along the texts that were written, drafted again."""
    tokenizer, along = Tokenizer.load(Path(demo_model("draft"))), DraftedAlong()
    for number_of, taken in enumerate(drafted):
        prompt = tokenizer.encode(options.prompts[number_of % len(options.prompts)])
        text = WrittenText((*prompt, *taken.tokens), len(prompt), SamplingParams(options.temperature), options.seed + number_of)
        along.add(demo_drafter(), text, (_NODES,))
    return AcceptanceCurve("measured", along.survival)


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
    return [Table("plan", "What `cactus plan` foretells, and what `cactus simulate` measures (30 ms a step, emulated)", header, tuple(rows))]


def show(figures: Figures) -> None:
    """Prints the table."""
    for table in tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Writes the table into the folder's planning.md, where it has one."""
    if (page := folder / "planning.md").exists():
        write_into(page, tables(figures))
        print(f"wrote the tables of {page}")
