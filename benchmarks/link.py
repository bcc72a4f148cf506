"""`cactus bench link`: what a user gets over a link: every system over every profile, the tuner against the best fixed plan, bytes.

Knows the parts and their order, one after the other, since each has the machine to itself; what each claims, against whom, and
what would refute it, stands in its own module.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks import hint_bytes, link_tables, over_links, tuning
from benchmarks.link_process import link_process
from benchmarks.over_links import VERIFIERS_MS
from benchmarks.table import write_into
from benchmarks.verifier_process import verifier_process
from cactus_core.turn_taking import take_short_turns
from cluster.figures import Figures


def run(*, quick: bool) -> Figures:
    """Measures everything. A progress bar shows on a terminal."""
    return asyncio.run(_run(quick=quick))


async def _run(*, quick: bool) -> Figures:
    figures = Figures("link")
    take_short_turns()
    num_units = sum(over_links.num_units(ms, quick=quick) + tuning.num_units(quick=quick) for ms in VERIFIERS_MS)
    num_units += hint_bytes.num_units(quick=quick)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=num_units)

        def advance() -> None:
            progress.advance(bar)

        for verifier_ms in VERIFIERS_MS:
            with verifier_process(1, verifier_ms / 1e3) as verifier, link_process(verifier) as link:
                await over_links.measure(figures, verifier, link, verifier_ms, quick=quick, advance=advance)
                await tuning.measure(figures, link, verifier_ms, quick=quick, advance=advance)
                if not verifier_ms:
                    await hint_bytes.measure(figures, link, quick=quick, advance=advance)
    return figures


def show(figures: Figures) -> None:
    """Prints the tables."""
    for table in link_tables.tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Writes the tables into the folder's link.md, where it has one."""
    if (page := folder / "link.md").exists():
        write_into(page, link_tables.tables(figures))
        print(f"wrote the tables of {page}")
