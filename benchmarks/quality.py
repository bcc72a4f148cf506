"""Claim: a certified relaxation spends what it is told to and no more, and what that does to likelihood is small; so that a user can choose
delta by this table.

Texts are written by the real parts, drafter and engine, under each relaxation at temperature 1, from beginnings that nobody trained on. Of
each text: the mean log-probability that the target gives its tokens, beside that of texts the target wrote by itself (which is minus
its entropy, so that more is no better than less), and the nats that were realised, place by place.
Refuted by: `certified` realising more than its delta anywhere, or texts of a small delta that lie outside of the exact ones' interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.lockstep import running_engine
from benchmarks.prompts import PROMPTS
from benchmarks.table import Table, interval, number, rows_of, write_into
from cactus_core.acceptance import TOKEN_LEVEL, Acceptance
from cactus_core.demo_pair import demo_model
from cactus_core.rules import DEFAULT_RULE
from cactus_core.sampling import SamplingParams
from cactus_core.session import Request
from cloud.engine import Engine
from cloud.target import TargetModel
from cluster.figures import Case, Figures
from edge.drafting.onnx_drafter import OnnxDrafter

_NUM_PAGES = 200
_ROWS, _LENGTH = 4, 6
_TEMPERATURE = 1.0
_QUICK_TEXTS, _FULL_TEXTS = (6, 40), (40, 96)  # texts, tokens of each
_FULL = {
    "certified": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "certified_tv": (0.01, 0.05, 0.15),
    "priced": (6.0, 3.0, 1.5, 0.8),
    "interpolate": (0.1, 0.3, 0.6, 1.0),
    "cactus": (0.001, 0.01, 0.03, 0.1, 0.3, 1.0),
    "typical": (0.03, 0.09, 0.3),
    "top_k": (2.0, 5.0, 10.0),
}
_QUICK = {
    "certified": (0.03, 0.3),
    "certified_tv": (0.05,),
    "priced": (1.5,),
    "interpolate": (0.3,),
    "cactus": (0.03, 0.3),
    "typical": (0.09,),
    "top_k": (5.0,),
}


@dataclass(slots=True)
class Written:
    """Under one acceptance: of each text its mean log-probability and nats a token, the most nats at one place, and rounds."""

    logprobs: list[float] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    most: float = 0.0
    num_tokens: int = 0
    num_rounds: int = 0


def run(*, quick: bool) -> Figures:
    """Of the demo pair. A progress bar shows on a terminal."""
    return run_pair(demo_model("target"), demo_model("draft"), quick=quick)


def run_pair(target: str, draft: str, *, quick: bool) -> Figures:
    """See `run`, of any pair."""
    figures, drafter = Figures("quality"), OnnxDrafter.load(draft)
    num_texts, num_tokens = _QUICK_TEXTS if quick else _FULL_TEXTS
    pair = "demo" if target == demo_model("target") else Path(target).name
    served = TargetModel.load(target)
    prompts = [tuple(served.tokenizer(prompt).input_ids) for prompt in PROMPTS]
    with running_engine(served, _NUM_PAGES) as engine:
        for acceptance in track(acceptances(quick=quick), "writing", console=Console(stderr=True), transient=True):
            written = Written()
            for text in range(num_texts):
                _write(engine, drafter, acceptance, prompts[text % len(prompts)], 1000 + text, num_tokens, written)
            _count(figures, _case(acceptance, pair), written)
    return figures


def acceptances(*, quick: bool) -> list[Acceptance]:
    """The exact rule first. What judges token by token runs as published."""
    found = [Acceptance()]
    for relaxation, strengths in (_QUICK if quick else _FULL).items():
        rule = "first+token" if relaxation in TOKEN_LEVEL else DEFAULT_RULE
        found += [Acceptance(rule, relaxation, strength) for strength in strengths]
    return found


def _rows(acceptance: Acceptance) -> int:
    return 1 if acceptance.relaxation in TOKEN_LEVEL else _ROWS


def _write(
    engine: Engine, drafter: OnnxDrafter, acceptance: Acceptance, prompt: tuple[int, ...], seed: int, num_tokens: int, written: Written
) -> None:
    """One text, round by round; mutates `written`."""
    params = SamplingParams(_TEMPERATURE)
    asked = Request(prompt, num_tokens, seed, engine.served.fingerprint, sampling=params, acceptance=acceptance)
    session = engine.open(asked)
    logprobs: list[float] = []
    nats: list[float] = []
    try:
        while True:
            block = drafter.draft(session.text, num_rows=_rows(acceptance), length=_LENGTH, params=params, seed=seed)
            decision = engine.submit(session, written.num_rounds, block).result()
            logprobs += decision.logprobs
            nats += decision.divergence
            written.num_rounds += 1
            if decision.finish is not None:
                break
    finally:
        engine.close(session)
    written.logprobs.append(fmean(logprobs))
    written.nats.append(fmean(nats))
    written.most = max(written.most, *nats)
    written.num_tokens += len(logprobs)


def _count(figures: Figures, case: Case, written: Written) -> None:
    figures.add_mean(case, "logprob_mean", written.logprobs, "nats/token")
    if np.isfinite(written.nats).all():
        figures.add_mean(case, "realised_kl_mean", written.nats, "nats/token")
    else:
        figures.add(case, "realised_kl_mean", np.inf, "nats/token")
    figures.add(case, "realised_kl_max", written.most, "nats")
    figures.add(case, "tokens_per_round", written.num_tokens / written.num_rounds, "tokens")


def _case(acceptance: Acceptance, pair: str) -> Case:
    case: Case = {"rule": acceptance.rule, "label": str(acceptance.label), "pair": pair, "temperature": _TEMPERATURE}
    if acceptance.relaxation:
        case |= {"relaxation": acceptance.relaxation, "strength": acceptance.strength}
    return case | {"K": _rows(acceptance), "L": _LENGTH}


def tables(figures: Figures) -> list[Table]:
    rows = []
    for row in rows_of(figures, "logprob_mean"):
        case = row["case"]
        spent, most, tokens = (
            next(each for each in rows_of(figures, metric, **case) if each["case"] == case)
            for metric in ("realised_kl_mean", "realised_kl_max", "tokens_per_round")
        )
        name, strength = case.get("relaxation", "none"), f"{case['strength']:g}" if "strength" in case else ""
        realised = [_or_unbounded(each) for each in (spent, most)]
        rows.append((name, strength, case["label"], number(tokens), *realised, interval(row)))
    header = ("relaxation", "strength", "label", "tokens a round", "nats a token", "most at a place", "log-probability a token")
    return [Table("quality", "What a relaxation brings, and what it costs", header, tuple(rows))]


def _or_unbounded(row: dict[str, float | None]) -> str:
    return "infinite" if row["value"] is None else number(row)


def show(figures: Figures) -> None:
    """Prints the table."""
    for table in tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Draws the plot into `folder`, and writes the table into its quality.md where it has one."""
    for path in draw(figures, folder):
        print(f"wrote {path}")
    if (page := folder / "quality.md").exists():
        write_into(page, tables(figures))
        print(f"wrote the tables of {page}")


def draw(figures: Figures, folder: Path) -> Sequence[Path]:
    """quality.png and quality.svg: log-probability against what was spent, a line a relaxation. Returns their paths."""
    import matplotlib as mpl

    mpl.use("Agg")  # no screen is needed
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "cactus"}):
        figure, axis = plt.subplots(figsize=(8, 4.6), layout="constrained")
        exact = next(row for row in rows_of(figures, "logprob_mean") if "relaxation" not in row["case"])
        axis.axhspan(exact["low"], exact["high"], color="#8a8f98", alpha=0.2, lw=0, label="exact, 95%")
        for name in _FULL:
            points = []
            for row in rows_of(figures, "logprob_mean", relaxation=name):
                spent = rows_of(figures, "realised_kl_mean", **row["case"])[0]["value"]
                points += [(spent, row["value"])] if spent else []
            points.sort()
            style = "--" if name in TOKEN_LEVEL else "-"
            axis.plot([x for x, _ in points], [y for _, y in points], style, marker="o", ms=3, label=name)
        axis.set(xscale="log", xlabel="realised KL, nats a token", ylabel="log-probability under the target, nats a token")
        axis.set_title("What texts are worth to the target, by what was spent (dashed: published, token by token)", loc="left")
        axis.legend(frameon=False, fontsize=8)
        paths = [folder / f"quality.{kind}" for kind in ("png", "svg")]
        for path in paths:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
    return paths
