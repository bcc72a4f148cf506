"""`cactus bench acceptance`: every acceptance rule, proved, priced and compared: law, limit, tokens a round, divergence, bytes, time.

Knows the parts and how to spread them over cores; what each claims, and what would refute it, stands in its own module.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks import coupled_rounds, decision_cost, law_error, limit, plots, rounds, tables, wire_size
from benchmarks.table import write_into
from cluster.figures import Figures

_TEMPERATURES = (1.0, 0.6)
_NODES = (24, 48)
_TEXTS_A_UNIT = 5


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of work for one core, and what its result is part of."""

    group: tuple[str, *tuple[float, ...]]
    work: Callable[..., Any]
    arguments: tuple[Any, ...]


def run(*, quick: bool) -> Figures:
    """Measures everything. A progress bar shows on a terminal."""
    units = _units(quick=quick)
    results: dict[tuple[Any, ...], list[Any]] = {}
    figures = Figures("acceptance")
    os.environ["OMP_NUM_THREADS"] = "1"  # each worker has a core to itself
    with (
        Progress(console=Console(stderr=True), transient=True) as progress,
        ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool,
    ):
        bar = progress.add_task("measuring", total=len(units) + decision_cost.num_units(quick))
        pending = {pool.submit(unit.work, *unit.arguments, quick=quick): unit for unit in units}
        done = {}
        for future in as_completed(pending):
            done[pending[future]] = future.result()
            progress.advance(bar)
        for unit in units:  # in the order of the plan, whichever came first
            results.setdefault(unit.group, []).append(done[unit])
        _report(figures, results)
        # Times are taken last, when nothing else of ours runs.
        decision_cost.measure(figures, quick=quick, advance=lambda: progress.advance(bar))
    return figures


def show(figures: Figures) -> None:
    """Prints the tables."""
    for table in tables.tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Draws the plots into `folder`, and writes the tables into its acceptance.md where it has one."""
    for path in plots.draw(figures, folder):
        print(f"wrote {path}")
    if (page := folder / "acceptance.md").exists():
        write_into(page, tables.tables(figures))
        print(f"wrote the tables of {page}")


def _units(*, quick: bool) -> list[Unit]:
    """The longest first, so that no core waits for another at the end."""
    num_texts, num_synthetic = (10, 64) if quick else (80, 1024)
    firsts = range(0, num_texts, _TEXTS_A_UNIT)
    units = [Unit(("rounds", t), rounds.demo_tallies, (t, first, _TEXTS_A_UNIT)) for t in _TEMPERATURES for first in firsts]
    units += [Unit(("rows",), _rows, (part,)) for part in (law_error.measure, limit.measure)]
    units += [Unit(("synthetic",), rounds.synthetic_tallies, (seed, 64)) for seed in range(num_synthetic // 64)]
    units += [
        Unit(("coupled", t, n), coupled_rounds.measure, (t, n, first, _TEXTS_A_UNIT))
        for t in _TEMPERATURES
        for n in _NODES[: 1 if quick else 2]
        for first in firsts[: 1 if quick else 8]
    ]
    units += [Unit(("rows",), _wire_rows, (t, size)) for t in _TEMPERATURES for size in wire_size.supports(quick=quick)]
    return units


def _report(figures: Figures, results: dict[tuple[Any, ...], list[Any]]) -> None:
    for group, parts in results.items():
        match group:
            case ("rounds", temperature):
                rounds.report(figures, rounds.joined(parts), "demo", temperature)
            case ("synthetic",):
                rounds.report(figures, rounds.joined(parts), "synthetic", 1.0)
            case ("coupled", temperature, num_nodes):
                coupled_rounds.report(figures, np.concatenate(parts), temperature, num_nodes)
            case _:
                figures.rows += [row for rows in parts for row in rows]


def _rows(measure: Callable[..., None], *, quick: bool) -> list[dict[str, object]]:
    figures = Figures("acceptance")
    measure(figures, quick=quick)
    return figures.rows


def _wire_rows(temperature: float, support_size: int, *, quick: bool) -> list[dict[str, object]]:
    figures = Figures("acceptance")
    wire_size.measure(figures, temperature, support_size, quick=quick)
    return figures.rows
