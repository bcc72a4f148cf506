"""The table of what drafts bring a verifier, whichever target it runs.

Knows figures; measures nothing.
"""

from __future__ import annotations

from typing import Any

from benchmarks import capacity
from benchmarks.table import Table, interval, number, rows_of
from cluster.figures import Figures


def capacity_table(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "speedup_vs_plain"):
        case = row["case"]
        ours, per_round = one(figures, "verifier_s_per_token", case), one(figures, "tokens_per_round", case)
        shared = {name: case[name] for name in ("clients", "model", "dtype", "prompt_tokens", "temperature") if name in case}
        plain = one(figures, "verifier_s_per_token", {**shared, "system": "plain"})
        rows.append(
            (
                model_of(case),
                str(case["clients"]),
                str(case.get("prompt_tokens", "short")),
                f"{case['temperature']:g}",
                f"K={case['K']} L={case['L']} S={case['S']}",
                case["acceptance"],
                number(per_round),
                *(f"{1e3 * found['value']:.2f}" for found in (ours, plain)),
                interval(row),
                f"{capacity.LIMITS[case['model']]:g}" if case["model"] in capacity.LIMITS else "",
            )
        )
    header = (
        "target",
        "clients",
        "prompt",
        "temperature",
        "block",
        "acceptance",
        "tokens a round",
        "ms a token",
        "plain",
        "times",
        "at least",
    )
    return Table("capacity", "the verifier's busy time a token, with edge drafts and without", header, tuple(rows))


def one(figures: Figures, metric: str, case: dict[str, Any]) -> Any:
    return rows_of(figures, metric, **{name: value for name, value in case.items() if name != "repeats"})[0]


def model_of(case: dict[str, Any]) -> str:
    """`case` may be of a file that is older than types were told of."""
    millions = case["parameters"] / 1e6
    of_type = f", {case['dtype']}" if case.get("dtype", "float32") != "float32" else ""
    return f"{case['model']}, {millions:.{1 if millions < 100 else 0}f}M{of_type}"
