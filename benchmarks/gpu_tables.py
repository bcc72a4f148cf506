"""The tables of `cactus bench gpu`, for a terminal and for docs/gpu.md.

Knows figures; measures nothing.
"""

from __future__ import annotations

from benchmarks.capacity_table import capacity_table
from benchmarks.table import Table, interval, number, rows_of
from cluster.figures import Figures


def tables(figures: Figures) -> list[Table]:
    return [table for table in (_steps(figures), capacity_table(figures)) if table.rows]


def _steps(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "step_ms"):
        case = {name: value for name, value in row["case"].items() if name != "repeats"}
        what = f"blocks, K={case['K']} L={case['L']}" if case["system"] == "blocks" else "plain"
        [size] = rows_of(figures, "tokens_per_step", **case)
        cells = [
            interval(rows_of(figures, metric, **case, against=against)[0])
            for against in ("transformers", "captured")
            for metric in ("forward_ms", "step_overhead")
        ]
        rows.append((str(case["model"]), what, str(case["batch"]), number(size), interval(row), *cells))
    header = (
        "target",
        "sessions send",
        "B",
        "tokens a step",
        "step, ms",
        "transformers' forward, ms",
        "step / it",
        "captured forward, ms",
        "step / it",
    )
    return Table("gpu-steps", "a step against two forwards on as many tokens", header, tuple(rows))
