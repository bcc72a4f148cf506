"""The tables of `cactus bench verifier`, for a terminal and for docs/verifier.md.

Knows figures; measures nothing.
"""

from __future__ import annotations

from typing import Any

from benchmarks import capacity, neighbours, step_overhead
from benchmarks.table import Table, interval, number, rows_of
from cluster.figures import Figures


def tables(figures: Figures) -> list[Table]:
    found = (_overhead(figures), _transformers(figures), _pace(figures), capacity_table(figures), _neighbours(figures))
    return [table for table in found if table.rows]


def _overhead(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "step_overhead"):
        case = row["case"]
        what = f"blocks, K={case['K']} L={case['L']}" if case["system"] == "blocks" else "plain"
        others = [_one(figures, metric, case) for metric in ("tokens_per_step", "step_ms", "forward_ms")]
        limit = f"{step_overhead.LIMITS[case['model']]:g}" if case["system"] == "blocks" else ""
        rows.append((_model(case), what, str(case["batch"]), *(number(other) for other in others), interval(row), limit))
    header = ("target", "sessions send", "B", "tokens a step", "step, ms", "forward, ms", "step / forward", "at most")
    return Table("overhead", "a step against the bare forward on as many tokens", header, tuple(rows))


def _transformers(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "speedup_vs_naive"):
        case = row["case"]
        rows.append((_asked(case), _sampling(case), case["against"], interval(row)))
    header = ("requests", "sampling", "against", "times as fast")
    return Table("speedup", "how much faster than `generate`, turn by turn", header, tuple(rows))


def _pace(figures: Figures) -> Table:
    rows = [(_asked(row["case"]), _sampling(row["case"]), row["case"]["system"], interval(row)) for row in rows_of(figures, "tokens_per_s")]
    return Table("pace", "tokens a second, of all requests together", ("requests", "sampling", "system", "tokens/s"), tuple(rows))


def capacity_table(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "speedup_vs_plain"):
        case = row["case"]
        ours, per_round = _one(figures, "verifier_s_per_token", case), _one(figures, "tokens_per_round", case)
        shared = {name: case[name] for name in ("clients", "model", "temperature")}
        plain = _one(figures, "verifier_s_per_token", {**shared, "system": "plain"})
        rows.append(
            (
                _model(case),
                str(case["clients"]),
                f"{case['temperature']:g}",
                f"K={case['K']} L={case['L']} S={case['S']}",
                case["acceptance"],
                number(per_round),
                *(f"{1e3 * found['value']:.2f}" for found in (ours, plain)),
                interval(row),
                f"{capacity.LIMITS[case['model']]:g}" if case["temperature"] == 1.0 and case["model"] in capacity.LIMITS else "",
            )
        )
    header = ("target", "clients", "temperature", "block", "acceptance", "tokens a round", "ms a token", "plain", "times", "at least")
    return Table("capacity", "the verifier's busy time a token, with edge drafts and without", header, tuple(rows))


def _neighbours(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "slowdown_p95"):
        case = row["case"]
        what = f"blocks, K={case['K']} L={case['L']}" if case["system"] == "blocks" else "plain"
        cells = []
        for at in (50, 95):
            for streams in (0, case["hog_streams"]):
                where = {"system": case["system"], "hog_streams": streams, "against": case["hog_streams"]}
                cells.append(number(_one(figures, f"time_per_token_ms_p{at}", where)))
        limit = f"{neighbours.LIMIT:g}" if case["hog_streams"] == 1 else ""
        rows.append((what, str(case["hog_streams"]), *cells, interval(row), limit))
    header = ("victim", "hog's streams", "p50 alone, ms", "p50 beside it", "p95 alone, ms", "p95 beside it", "p95, times", "at most")
    return Table("neighbours", "a victim's time per token beside a client of the largest legal blocks", header, tuple(rows))


def _one(figures: Figures, metric: str, case: dict[str, Any]) -> Any:
    return rows_of(figures, metric, **{name: value for name, value in case.items() if name != "repeats"})[0]


def _model(case: dict[str, Any]) -> str:
    return (
        f"{case['model']}, {case['parameters'] / 1e6:.1f}M"
        if case["parameters"] < 1e8
        else f"{case['model']}, {case['parameters'] / 1e6:.0f}M"
    )


def _asked(case: dict[str, Any]) -> str:
    if case["drafter"] == "none":
        return f"{case['requests']} at once"
    return f"1, trees of {case['nodes']}" if "nodes" in case else f"1, drafts K={case['K']} L={case['L']} S={case['S']}"


def _sampling(case: dict[str, Any]) -> str:
    return f"temperature {case['temperature']:g}" if case["temperature"] else "greedy"
