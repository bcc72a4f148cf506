"""A table of figures, for a terminal and for a page of the documents.

Knows cells of text and where in a page they belong; knows nothing of what any benchmark measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from cluster.figures import Figures


@dataclass(frozen=True, slots=True)
class Table:
    """`name` marks its place in the page."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        lines = ["| " + " | ".join(self.header) + " |", "|" + "---|" * len(self.header)]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in self.rows)])

    def show(self, console: Console) -> None:
        table = RichTable(*self.header, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)


def write_into(page: Path, shown: Sequence[Table]) -> None:
    """Replaces what stands between `<!-- NAME -->` and `<!-- end -->` in the page, for each table that has a place there."""
    text = page.read_text("utf8")
    for table in shown:
        start = f"<!-- {table.name} -->"
        if start in text:
            before, _, rest = text.partition(start)
            text = f"{before}{start}\n{table.markdown()}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    page.write_text(text, "utf8")


def rows_of(figures: Figures, metric: str, **case: Any) -> list[Any]:
    """The figures' rows of a metric, of all cases that have all of `case`."""
    return [row for row in figures.rows if row["metric"] == metric and case.items() <= dict(row["case"]).items()]  # type: ignore[call-overload]


def number(row: Any) -> str:
    return _short(row["value"])


def interval(row: Any) -> str:
    return f"{_short(row['value'])} ({_short(row['low'])} - {_short(row['high'])})"


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
