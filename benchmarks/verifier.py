"""`cactus bench verifier`: what serving many clients costs and brings: step overhead, `transformers`, capacity, neighbours.

Knows the parts and their order, one after the other, since each has the machine to itself; what each claims, against whom, and
what would refute it, stands in its own module.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import Progress

from benchmarks import against_transformers, capacity, neighbours, step_overhead, verifier_tables
from benchmarks.table import write_into
from cluster.figures import Figures


class _Part(Protocol):
    def measure(self, figures: Figures, *, quick: bool, advance: Callable[[], None]) -> None: ...

    def num_units(self, *, quick: bool) -> int: ...


_PARTS: tuple[_Part, ...] = (step_overhead, against_transformers, capacity, neighbours)


def run(*, quick: bool) -> Figures:
    """Measures everything. A progress bar shows on a terminal."""
    figures = Figures("verifier")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=sum(part.num_units(quick=quick) for part in _PARTS))
        for part in _PARTS:
            part.measure(figures, quick=quick, advance=lambda: progress.advance(bar))
    return figures


def show(figures: Figures) -> None:
    """Prints the tables."""
    for table in verifier_tables.tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Writes the tables into the folder's verifier.md, where it has one."""
    if (page := folder / "verifier.md").exists():
        write_into(page, verifier_tables.tables(figures))
        print(f"wrote the tables of {page}")
