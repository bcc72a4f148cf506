"""`cactus bench load`: what a gateway adds to each round and holds for each stream, when a thousand of them are open at once.

Claims, against a direct call of the same STUB of a verifier at the same load: at light load a round comes at most 2 ms later by
the median; at 2,000 rounds a second at most 25 ms later at the 99th percentile; an idle stream holds at most 60 KB of the gateway's
memory, the connection that each has for itself included; no stream is starved. What would refute it: a row beyond its mark.
A delay is counted from when its round was due, so that a client which falls behind does not hide it. The stub answers at once and
knows no model; stub, gateway and clients are processes that share this machine's cores, as they would not elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.load_parts import clients, gateway, stub_verifier
from benchmarks.medians import add_median
from benchmarks.servant import Servant, servant
from benchmarks.table import Table, interval, rows_of, write_into
from cluster.figures import Case, Figures

_NUM_CLIENTS = 2  # processes
_LEAD_S = 1.0  # from when it is told to when the clients begin
_SETTLE_S = 0.5  # what opening and closing leave to do
_WARM_SHARE = 0.2  # of each run's rounds, its first, are left out
MARKS = {"added_delay_ms_p50": 2.0, "added_delay_ms_p99": 25.0, "rss_kb_per_stream": 60.0}


@dataclass(frozen=True, slots=True)
class Load:
    """`num_streams` with `rounds_per_s` among them; `mark` is the metric that is held to a mark under it."""

    name: str
    num_streams: int
    rounds_per_s: float
    mark: str

    @property
    def case(self) -> Case:
        return {
            "system": "gateway",
            "load": self.name,
            "num_streams": self.num_streams,
            "rounds_per_s": self.rounds_per_s,
            "verifier": "stub",
        }


def loads(*, quick: bool) -> tuple[Load, ...]:
    full = Load("full", 200 if quick else 1000, 2000.0, "added_delay_ms_p99")
    return Load("light", 10, 100.0, "added_delay_ms_p50"), full


@dataclass(frozen=True, slots=True)
class _Run:
    """Delays in ms, and how many rounds each stream got."""

    delays: np.ndarray[tuple[int], np.dtype[np.float64]]
    num_rounds: tuple[int, ...]

    @classmethod
    def of(cls, streams: Sequence[Sequence[float]]) -> _Run:
        kept = [delays[int(len(delays) * _WARM_SHARE) :] for delays in streams]
        return cls(np.concatenate(kept) * 1e3, tuple(len(delays) for delays in streams))

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.delays, share))


def run(*, quick: bool) -> Figures:
    """Measures everything. A line a load shows on a terminal."""
    figures, console = Figures("load"), Console(stderr=True)
    repeats, lasts_s = (2, 2.0) if quick else (6, 12.0)
    with servant(stub_verifier) as stub, servant(gateway, stub.greeting) as middle, _clients() as edges:
        for load in loads(quick=quick):
            console.log(f"{load.num_streams} streams, {load.rounds_per_s:g} rounds a second")
            _delays(figures, load, middle, edges, stub.greeting, repeats=repeats, lasts_s=lasts_s)
        console.log(f"{load.num_streams} idle streams")
        _memory(figures, load, stub.greeting, edges)
    return figures


@contextmanager
def _clients() -> Iterator[list[Servant]]:
    with ExitStack() as stack:
        yield [stack.enter_context(servant(clients)) for _ in range(_NUM_CLIENTS)]


def _memory(figures: Figures, load: Load, stub: str, edges: Sequence[Servant]) -> None:
    """Of streams that have been opened and say nothing, for two ways in which edges connect."""
    for num_connections in (load.num_streams, _NUM_CLIENTS):
        with servant(gateway, stub) as fresh:
            with _opened(fresh.greeting, _NUM_CLIENTS, _NUM_CLIENTS, edges):
                pass  # what the first streams bring about once
            before, _ = fresh.ask("use")
            with _opened(fresh.greeting, load.num_streams, num_connections, edges):
                held, _ = fresh.ask("use")
        per_stream = (held - before) / load.num_streams
        connections = "one each" if num_connections == load.num_streams else "shared"
        figures.add(load.case | {"connections": connections}, "rss_kb_per_stream", per_stream, "KB")


def _delays(figures: Figures, load: Load, middle: Servant, edges: Sequence[Servant], stub: str, *, repeats: int, lasts_s: float) -> None:
    """In pairs, one after the other, each first in turn."""
    found: dict[str, list[_Run]] = {"direct": [], "gateway": []}
    used_us = []
    for number in range(repeats):
        for name in list(found) if number % 2 == 0 else list(reversed(found)):
            address = stub if name == "direct" else middle.greeting
            with _opened(address, load.num_streams, load.num_streams, edges):
                _, before_s = middle.ask("use")
                driven = _driven(load, edges, lasts_s)
                _, after_s = middle.ask("use")
            found[name].append(driven)
            if name == "gateway":
                used_us.append((after_s - before_s) / sum(driven.num_rounds) * 1e6)
    for share in (50, 99):
        for name, runs in found.items():
            add_median(figures, load.case | {"system": name}, f"delay_ms_p{share}", [each.percentile(share) for each in runs], "ms")
        added = [ours.percentile(share) - theirs.percentile(share) for ours, theirs in zip(found["gateway"], found["direct"], strict=True)]
        add_median(figures, load.case, f"added_delay_ms_p{share}", added, "ms")
    num_rounds = [count for each in found["gateway"] for count in each.num_rounds]
    figures.add(load.case, "rounds_per_stream", float(np.median(num_rounds)), "rounds", low=min(num_rounds), high=max(num_rounds))
    add_median(figures, load.case, "gateway_cpu_us_per_round", used_us, "us")


@contextmanager
def _opened(address: str, num_streams: int, num_connections: int, edges: Sequence[Servant]) -> Iterator[None]:
    for edge in edges:
        edge.begin("open", address, num_streams // len(edges), num_connections // len(edges))
    for edge in edges:
        edge.answer()
    time.sleep(_SETTLE_S)
    yield
    for edge in edges:
        edge.begin("close")
    for edge in edges:
        edge.answer()
    time.sleep(_SETTLE_S)


def _driven(load: Load, edges: Sequence[Servant], lasts_s: float) -> _Run:
    starts_at = time.monotonic() + _LEAD_S
    for edge in edges:
        edge.begin("drive", load.rounds_per_s / len(edges), starts_at, lasts_s)
    return _Run.of([delays for edge in edges for delays in edge.answer()])


def tables(figures: Figures) -> list[Table]:
    rows = []
    for load in ("light", "full"):
        for metric in ("added_delay_ms_p50", "added_delay_ms_p99", "rounds_per_stream", "gateway_cpu_us_per_round"):
            rows += [
                _line(row, f"{row['case']['num_streams']} at {row['case']['rounds_per_s']:g}/s")
                for row in rows_of(figures, metric, load=load)
            ]
    rows += [_line(row, f"idle, connections: {row['case']['connections']}") for row in rows_of(figures, "rss_kb_per_stream")]
    header = "streams", "what", "value", "unit", "at most"
    return [Table("load", "a gateway before a STUB of a verifier, all on this machine", header, tuple(rows))] if rows else []


def _size(case: Case) -> str:
    return f"{case['num_streams']} at {case['rounds_per_s']:g}/s"


def _line(row: dict[str, object], streams: str) -> tuple[str, ...]:
    """Of rows that are held to a mark, with it."""
    metric = str(row["metric"])
    return streams, metric, interval(row) if row["low"] is not None else f"{row['value']:.3g}", str(row["unit"]), _mark_of(row)


def _mark_of(row: dict[str, object]) -> str:
    metric, case = str(row["metric"]), row["case"]
    held = {load.name: load.mark for load in loads(quick=False)}
    is_held = metric not in held.values() or held[case["load"]] == metric  # type: ignore[index]
    return f"{MARKS[metric]:g}" if metric in MARKS and is_held else ""


def show(figures: Figures) -> None:
    """Prints the table."""
    for table in tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Writes the table into the folder's load.md, where it has one."""
    if (page := folder / "load.md").exists():
        write_into(page, tables(figures))
        print(f"wrote the tables of {page}")
