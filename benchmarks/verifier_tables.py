"""The tables of `cactus bench verifier`, for a terminal and for docs/verifier.md.

Knows figures; measures nothing.
"""

from __future__ import annotations

from typing import Any

from benchmarks import neighbours, step_overhead
from benchmarks.capacity_table import capacity_table, model_of, one
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
        others = [one(figures, metric, case) for metric in ("tokens_per_step", "step_ms", "forward_ms")]
        limit = f"{step_overhead.LIMITS[case['model']]:g}" if case["system"] == "blocks" else ""
        rows.append((model_of(case), what, str(case["batch"]), *(number(other) for other in others), interval(row), limit))
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


def _neighbours(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "slowdown_p95"):
        case = row["case"]
        what = f"blocks, K={case['K']} L={case['L']}" if case["system"] == "blocks" else "plain"
        cells = []
        for at in (50, 95):
            for streams in (0, case["hog_streams"]):
                where = {"system": case["system"], "hog_streams": streams, "against": case["hog_streams"]}
                cells.append(number(one(figures, f"time_per_token_ms_p{at}", where)))
        limit = f"{neighbours.LIMIT:g}" if case["hog_streams"] == 1 else ""
        rows.append((what, str(case["hog_streams"]), *cells, interval(row), limit))
    header = ("victim", "hog's streams", "p50 alone, ms", "p50 beside it", "p95 alone, ms", "p95 beside it", "p95, times", "at most")
    return Table("neighbours", "a victim's time per token beside a client of the largest legal blocks", header, tuple(rows))


def _asked(case: dict[str, Any]) -> str:
    if case["drafter"] == "none":
        return f"{case['requests']} at once"
    return f"1, trees of {case['nodes']}" if "nodes" in case else f"1, drafts K={case['K']} L={case['L']} S={case['S']}"


def _sampling(case: dict[str, Any]) -> str:
    return f"temperature {case['temperature']:g}" if case["temperature"] else "greedy"
