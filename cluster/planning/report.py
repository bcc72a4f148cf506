"""Answers for a person, and as figures.

Knows answers; computes none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.figures import Case, Figures
from cluster.planning.answers import MOST_CLIENTS, OBJECTIVES, Answers, Carried, cost_by, law_simulated
from cluster.planning.configuration import OFF
from cluster.planning.outcome import Outcome

_TITLES = ("tokens\nper s", "p50\nms", "p95\nms", "per\nround", "cloud\nms", "edge\nmJ", "up\nB", "load", "best for")
_NOTE = "p50, p95: time a token. cloud: the verifier's time, edge: the edge's energy, up: bytes, all a token."
_WORTH_NAMING = 0.02  # of what the best brings
_TOO_LARGE = 2.0  # for per cent


def show(console: Console, answers: Answers) -> None:
    """Prints what was asked, a table of ways, and the answers, one a line."""
    setting = answers.setting
    for label, name, description in (
        ("Device", setting.device.name, setting.device.description),
        ("Link", setting.link.name, setting.link.description),
        ("Verifier", setting.verifier.name, setting.verifier.description),
        ("Drafts", setting.acceptance.name, setting.acceptance.description),
    ):
        console.print(Text(f"{label:9} {name}" + (f": {description}" if description else "")))
    console.print(Text(f"Clients   {answers.num_clients}, at once, all the time (simulated)\n"))
    console.print(_table(answers))
    console.print(Text(_NOTE, "dim"))
    for line in _lines(answers):
        console.print(Text(line))


def _table(answers: Answers) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("clients\nspeculate", no_wrap=True)
    for title in _TITLES[:-1]:
        table.add_column(title, justify="right")
    table.add_column(_TITLES[-1], no_wrap=True)
    for outcome in answers.outcomes:
        best_for = ", ".join(objective for objective, best in answers.best.items() if best.way == outcome.way)
        table.add_row(*_cells(outcome), best_for, style="bold" if best_for else "")
    return table


def _cells(outcome: Outcome) -> tuple[str, ...]:
    return (
        str(outcome.way),
        f"{outcome.tokens_per_s:.0f}",
        f"{outcome.time_per_token_s_p50 * 1e3:.1f}",
        f"{outcome.time_per_token_s_p95 * 1e3:.1f}",
        f"{outcome.tokens_per_decision:.2f}",
        f"{outcome.verifier_s_per_token * 1e3:.2f}",
        f"{outcome.joules_per_token * 1e3:.0f}",
        f"{outcome.up_bytes_per_token:.0f}",
        f"{outcome.load:.0%}",
    )


def _lines(answers: Answers) -> Iterator[str]:
    yield ""
    if answers.conflict:
        yield "The objectives conflict:"
        for objective, best in answers.best.items():
            losses = [
                f"{_share(loss)} {'fewer' if other == 'goodput' else 'more'} {OBJECTIVES[other]}"
                for other, theirs in answers.best.items()
                if (loss := _loss(other, best, theirs)) > _WORTH_NAMING
            ]
            yield f"  {objective:8} {best.way!s:12} costs {', '.join(losses) or 'the others nothing'}"
    else:
        yield f"{answers.best['goodput'].way} is the best by every objective."
    yield ""
    yield f"Clients that one verifier carries at a p95 of {answers.p95_s * 1e3:g} ms a token:"
    for carried in answers.carried:
        yield f"  {carried.way!s:12} {_carried(carried)}"
    yield ""
    yield "One client is faster than the cloud alone up to a round trip of:"
    for way, seconds in answers.break_even_s.items():
        yield f"  {way!s:12} {_round_trip(seconds)}"
    if answers.law is not None:
        law = answers.law
        yield ""
        yield (
            f"Drafting at the edge and not beside the target carries 1 + gamma·t_d/t_v = {law.formula:.2f} times the clients of a busy "
            f"verifier (simulated: {law_simulated(law):.2f}), "
            f"at gamma {law.gamma}, t_d {law.draft_s * 1e3:.2f} ms, t_v {law.verify_s * 1e3:.2f} ms."
        )


def _loss(objective: str, ours: Outcome, best: Outcome) -> float:
    """The share of `best` that is lost, or spent more."""
    ratio = cost_by(objective, ours) / cost_by(objective, best)
    return 1.0 - 1.0 / ratio if objective == "goodput" else ratio - 1.0


def _share(loss: float) -> str:
    return f"{loss:.0%}" if loss < _TOO_LARGE else f"{loss:.1f} times"


def _carried(carried: Carried) -> str:
    p95 = f"{carried.outcome.time_per_token_s_p95 * 1e3:.1f} ms"
    if not carried.num_clients:
        return f"none: one alone has {p95}"
    count = f"{carried.num_clients} and more" if carried.num_clients >= MOST_CLIENTS else f"{carried.num_clients}"
    return f"{count}, at {p95} and {carried.outcome.tokens_per_s:.0f} tokens a second"


def _round_trip(seconds: float | None) -> str:
    if seconds is None:
        return "none: not even over a perfect link"
    return "any" if math.isinf(seconds) else f"{seconds * 1e3:.0f} ms"


def figures(answers: Answers) -> Figures:
    """In the shape that benchmarks write."""
    found, setting = Figures("plan"), answers.setting
    profiles: Case = {
        "device": setting.device.name,
        "profile": setting.link.name,
        "verifier": setting.verifier.name,
        "acceptance": setting.acceptance.name,
    }
    for outcome in answers.outcomes:
        count(found, profiles | {"clients": answers.num_clients}, outcome)
    for objective, best in answers.best.items():
        case: Case = profiles | {"clients": answers.num_clients, "objective": objective, "mode": best.way.mode, "nodes": best.way.num_nodes}
        found.add(case, "best", 1.0 / cost_by(objective, best), "tokens per s, verifier s or J")
    for carried in answers.carried:
        case = profiles | {"mode": carried.way.mode, "nodes": carried.way.num_nodes, "p95_ms": answers.p95_s * 1e3}
        found.add(case, "clients_carried", carried.num_clients, "clients")
    for way, seconds in answers.break_even_s.items():
        case = profiles | {"mode": way.mode, "nodes": way.num_nodes}
        found.add(case, "break_even_round_trip_ms", math.nan if seconds is None else seconds * 1e3, "ms")
    if answers.law is not None:
        found.add(profiles | {"gamma": answers.law.gamma}, "capacity_law", answers.law.formula, "times")
        found.add(profiles | {"gamma": answers.law.gamma}, "capacity_law_simulated", law_simulated(answers.law), "times")
    return found


def count(found: Figures, case: Case, outcome: Outcome) -> None:
    """Adds an outcome's figures, under the names that measured ones have."""
    system = "plain" if outcome.way == OFF else "cactus"
    of = case | {"system": system, "mode": outcome.way.mode, "nodes": outcome.way.num_nodes, "simulated": True}
    found.add(of, "tokens_per_s", outcome.tokens_per_s, "tokens/s")
    found.add(of, "time_per_token_ms_p50", outcome.time_per_token_s_p50 * 1e3, "ms")
    found.add(of, "time_per_token_ms_p95", outcome.time_per_token_s_p95 * 1e3, "ms")
    found.add(of, "tokens_per_round", outcome.tokens_per_decision, "tokens")
    found.add(of, "verifier_s_per_token", outcome.verifier_s_per_token, "s")
    found.add(of, "joules_per_token", outcome.joules_per_token, "J")
    found.add(of, "up_bytes_per_token", outcome.up_bytes_per_token, "bytes")
    found.add(of, "load", outcome.load, "share of time")
