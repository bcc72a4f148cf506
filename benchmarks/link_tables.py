"""The tables of `cactus bench link`, for a terminal and for docs/link.md.

Knows figures; measures nothing.
"""

from __future__ import annotations

from typing import Any

from benchmarks.over_links import FRUGAL_BYTES, LEAST, LEAST_ANYWHERE, TEMPERATURES
from benchmarks.table import Table, interval, number, rows_of
from cluster.figures import Figures

_NAMES = {
    "plain": "cloud alone",
    "cactus": "this system",
    "frugal": f"this system, {FRUGAL_BYTES:g} bytes up a token",
    "naive": "stop and wait, dense laws",
    "colocated": "drafting in the cloud",
}


def tables(figures: Figures) -> list[Table]:
    found = (_speed(figures), _systems(figures), _tuning(figures), _bytes(figures))
    return [table for table in found if table.rows]


def _speed(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "speedup_vs_plain"):
        case = row["case"]
        is_held = case["system"] == "cactus" and case["drafter"] == "demo" and case["temperature"] == TEMPERATURES[0]
        least = LEAST.get((case["profile"], case["verifier_delay_ms"]), LEAST_ANYWHERE) if is_held else LEAST_ANYWHERE
        naive = rows_of(figures, "speedup_vs_naive", **_but(case, "repeats"))
        fewer = rows_of(figures, "up_bytes_fewer_than_naive", **_but(case, "repeats"))
        rows.append(
            (
                _verifier(case),
                case["profile"],
                f"{case['temperature']:g}",
                _system(case),
                interval(row),
                f"{least:g}" if case["system"] in {"cactus", "frugal"} else "",
                interval(naive[0]) if naive else "",
                number(fewer[0]) if fewer else "",
            )
        )
    header = (
        "verifier",
        "link",
        "temperature",
        "system",
        "times the cloud alone",
        "at least",
        "times stop and wait",
        "times fewer bytes up",
    )
    return Table("speed", "tokens a second against plain cloud decoding, request by request", header, tuple(rows))


def _systems(figures: Figures) -> Table:
    metrics = (
        "ttft_ms",
        "time_per_token_ms_p50",
        "time_per_token_ms_p95",
        "tokens_per_round",
        "up_bytes_per_token",
        "down_bytes_per_token",
    )
    rows = []
    for row in rows_of(figures, "tokens_per_s", temperature=TEMPERATURES[0]):
        case = row["case"]
        found = [rows_of(figures, metric, **_but(case, "repeats")) for metric in (*metrics, "messages_per_token", "verifier_s_per_token")]
        cells = [number(each[0]) if each else "" for each in found[:-1]]
        rows.append((_verifier(case), case["profile"], _system(case), interval(row), *cells, f"{1e3 * found[-1][0]['value']:.3g}"))
    header = (
        "verifier", "link", "system", "tokens/s", "first token, ms", "a token, p50, ms", "p95", "tokens a decision", "bytes up a token",
        "down", "messages a token", "verifier, ms a token",
    )  # fmt: skip
    return Table("systems", "what each system brings and costs", header, tuple(rows))


def _tuning(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "share_of_best_fixed"):
        case = row["case"]
        best = case["best"] if case["best"] == "off" else f"{case['best']}, {case['nodes']} nodes"
        rows.append((_verifier(case), case["profile"], best, interval(row), "0.95"))
    return Table("tuning", "the tuner against the best fixed plan", ("verifier", "link", "best plan", "share", "at least"), tuple(rows))


def _bytes(figures: Figures) -> Table:
    rows = []
    for row in rows_of(figures, "up_bytes_per_drafted_token"):
        case = row["case"]
        is_tree = case["family"] == "coupled"
        what = f"trees, {case['nodes']} nodes" if is_tree else f"blocks, K={case['K']} L={case['L']} S={case['S']}"
        overlap = rows_of(figures, "share_of_dense_overlap", **case)
        others = [rows_of(figures, metric, **case)[0] for metric in ("up_bytes_per_token", "down_bytes_per_token", "tokens_per_round")]
        cells = (f"{case['temperature']:g}", "yes" if case["padded"] else "no", number(row))
        rows.append((what, *cells, number(overlap[0]) if overlap else "", *(number(each) for each in others)))
    header = (
        "drafts", "temperature", "padded", "bytes up a drafted token", "share of the dense overlap", "bytes up a token", "down",
        "tokens a decision",
    )  # fmt: skip
    return Table("bytes", "bytes at the socket, framing included", header, tuple(rows))


def _but(case: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in case.items() if key != name}


def _verifier(case: dict[str, Any]) -> str:
    return f"{case['verifier_delay_ms']:g} ms a step, emulated" if case["verifier_delay_ms"] else "demo target, as it is"


def _system(case: dict[str, Any]) -> str:
    name = _NAMES[case["system"]]
    return f"{name}, random drafter" if case.get("drafter") == "random" else f"{name}, L={case['L']}" if "L" in case else name
