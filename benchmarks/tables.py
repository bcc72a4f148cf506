"""The tables of `cactus bench acceptance`, for a terminal and for docs/acceptance.md.

Knows figures; measures nothing.
"""

from __future__ import annotations

from typing import Any

from benchmarks.table import Table, rows_of
from benchmarks.wire_size import DELTA, SUPPORTS
from cactus_core.rules import DEFAULT_RULE, RULES
from cluster.figures import Figures


def tables(figures: Figures) -> list[Table]:
    return [
        table
        for table in (
            _law(figures),
            _limit(figures),
            *_by_k(figures),
            _ahead(figures),
            _divergence(figures),
            _bytes(figures),
            _cost(figures),
        )
        if table.rows
    ]


def _law(figures: Figures) -> Table:
    found = []
    for row in rows_of(figures, "law_tv_error"):
        case = row["case"]
        what = f"{case['relaxation']} {case['strength']:g}" if case.get("relaxation") else case["rule"]
        found.append((what, RULES[case["rule"]].known_as if not case.get("relaxation") else "", case["label"], f"{row['value']:.1e}"))
    return Table("law", "largest total-variation error over random small models", ("rule", "known as", "label", "law error"), tuple(found))


def _limit(figures: Figures) -> Table:
    rows = rows_of(figures, "share_of_limit")
    shapes = list(dict.fromkeys((row["case"]["V"], row["case"]["K"], row["case"]["L"]) for row in rows))
    found = []
    for rule in dict.fromkeys(row["case"]["rule"] for row in rows):
        shares = [_first(rows_of(figures, "share_of_limit", rule=rule, V=v, K=k, L=n)) for v, k, n in shapes]
        found.append((rule, *(f"{share['value']:.3f}" for share in shares)))
    return Table("limit", "share of the LP limit", ("rule", *(f"V={v} K={k} L={n}" for v, k, n in shapes)), tuple(found))


def _by_k(figures: Figures) -> list[Table]:
    made = []
    for name, pair, temperature in (("demo-1", "demo", 1.0), ("demo-06", "demo", 0.6), ("synthetic", "synthetic", 1.0)):
        rows = [
            row for row in rows_of(figures, "tokens_per_round", pair=pair, temperature=temperature) if not row["case"].get("relaxation")
        ]
        rows = [row for row in rows if "K" in row["case"] and not {"against", "texts"} & set(row["case"])]
        ks = sorted({row["case"]["K"] for row in rows})
        found: list[tuple[str, ...]] = []
        for rule in RULES:
            of_rule = {row["case"]["K"]: row for row in rows if row["case"]["rule"] == rule}
            if of_rule:
                found.append((_bold(rule), RULES[rule].known_as, RULES[rule].label, *(_interval(of_rule.get(k)) for k in ks)))
        found += [
            (f"coupled, {row['case']['nodes']} nodes", "", "exact", _interval(row), *("" for _ in ks[1:]))
            for row in rows_of(figures, "tokens_per_round", rule="coupled", pair=pair, temperature=temperature)
        ]
        made.append(
            Table(
                name,
                f"tokens a round, {pair} pair, temperature {temperature:g}",
                ("rule", "known as", "label", *(f"K={k}" for k in ks)),
                tuple(found),
            )
        )
    return made


def _ahead(figures: Figures) -> Table:
    found = []
    for rule in RULES:
        if rule == DEFAULT_RULE:
            continue
        cells = []
        for pair, temperature in (("demo", 1.0), ("demo", 0.6), ("synthetic", 1.0)):
            rows = rows_of(figures, "tokens_per_round_ahead", against=rule, pair=pair, temperature=temperature, K=4)
            cells.append(_interval(rows[0], sign="+") if rows else "")
        found.append((rule, *cells))
    header = ("against", "demo, temperature 1", "demo, 0.6", "synthetic")
    return Table("ahead", f"how many tokens a round {DEFAULT_RULE} is ahead, same drafts, K = 4", header, tuple(found))


def _divergence(figures: Figures) -> Table:
    found = []
    for row in rows_of(figures, "realised_kl_mean"):
        case = row["case"]
        most = _first(rows_of(figures, "realised_kl_max", **case))["value"]
        tokens = _first(rows_of(figures, "tokens_per_round", **case))
        found.append(
            (
                case["relaxation"],
                f"{case['strength']:g}",
                case["rule"],
                str(case["K"]),
                case["label"],
                _interval(tokens),
                _nats(row["value"]),
                _nats(most),
            )
        )
    header = ("relaxation", "strength", "rule", "K", "label", "tokens a round", "KL a token, mean", "KL at a place, most")
    return Table("divergence", "what divergence buys, demo pair, temperature 1", header, tuple(found))


def _bytes(figures: Figures) -> Table:
    found = []
    for temperature in (1.0, 0.6):
        for size in SUPPORTS:
            cells = [
                (rows_of(figures, metric, S=size, temperature=temperature, L=6, K=4))
                for metric in ("law_bytes", "law_bytes_combinatorial", "share_of_bound", "up_bytes_per_drafted_token")
            ]
            if not all(cells):
                continue
            alone, combinatorial, share, up = (cell[0]["value"] for cell in cells)
            exact, relaxed = (
                _first(rows_of(figures, "tokens_per_round", S=size, temperature=temperature, texts="wire", delta=delta))
                for delta in (0.0, DELTA)
            )
            found.append(
                (
                    f"{temperature:g}",
                    str(size),
                    f"{alone:.0f}",
                    f"{combinatorial:.0f}",
                    f"{share:.2f}",
                    f"{up:.0f}",
                    _interval(exact),
                    f"{_interval(relaxed)} ({relaxed['value'] / exact['value']:.2f} x)",
                )
            )
    header = (
        "temperature",
        "S",
        "bytes a law",
        "combinatorial",
        "p99 over 1.15x + 2 bytes",
        "bytes up a drafted token",
        f"tokens a round, {DEFAULT_RULE}",
        f"within delta = {DELTA}",
    )
    return Table("bytes", "what a wider support costs and brings, demo pair, K = 4, L = 6", header, tuple(found))


def _cost(figures: Figures) -> Table:
    found = []
    for row in rows_of(figures, "decision_ms"):
        case = row["case"]
        name = case["rule"] + (f", {case['relaxation']} {case['strength']:g}" if case.get("relaxation") else "")
        found.append(
            (
                name,
                str(case.get("batch", "")),
                str(case.get("K", "")),
                str(case.get("L", "")),
                str(case.get("S", case.get("V", ""))),
                f"{row['value']:.2f}",
                f"{row['low']:.2f} - {row['high']:.2f}",
            )
        )
    found += [
        (f"{row['case']['rule']} against {row['case']['against']}", "", "", "", "", f"{row['value']:.0f} x", "")
        for row in rows_of(figures, "speedup_vs_dense")
    ]
    return Table(
        "cost", "what a decision costs, one core", ("rule", "B", "K", "L", "S", "ms, median", "least - upper quartile"), tuple(found)
    )


def _first(rows: list[Any]) -> Any:
    return rows[0]


def _interval(row: dict[str, Any] | None, sign: str = "") -> str:
    return "" if row is None else f"{row['value']:{sign}.2f} ± {(row['high'] - row['low']) / 2:.2f}"


def _nats(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.4f}"


def _bold(rule: str) -> str:
    return f"**{rule}**" if rule == DEFAULT_RULE else rule
