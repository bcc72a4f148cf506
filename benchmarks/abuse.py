"""`cactus bench abuse`: claim: whoever abuses a gateway gets a status that says so, and others keep their 95th percentile within 2 times.

A gateway with mutual TLS and tenants, before a STUB of a verifier that answers at once; a tenant's streams, each round counted from when
it was due; and beside them an abuser of one kind at a time. Each is a process, and they share this machine's cores, as they would not
elsewhere: what an abuser takes to abuse is taken from the others too. Against: the same streams alone, in turn. Refuted by: a
`slowdown_p95` above 2.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from benchmarks.abusers import EXPIRED, KINDS, STRANGER, TENANT, abusers
from benchmarks.authority import Authority
from benchmarks.load_parts import Serve, Shown, clients, stub_verifier
from benchmarks.medians import add_median
from benchmarks.servant import Servant, servant
from benchmarks.table import Table, interval, rows_of, write_into
from cloud.certificates import ServerCertificates
from cluster.access.security import Security
from cluster.access.tenants import digest_of
from cluster.figures import Case, Figures
from cluster.gateway import GatewayServer
from cluster.router import Router

LIMIT = 2.0
_GOOD = "good"
_NUM_STREAMS, _ROUNDS_PER_S = 10, 100.0
_LEAD_S = 0.5
_SLOW_READER_S = 1.0
_TENANTS = f"""
[tenants.{_GOOD}]
tokens_sha256 = ["{{good}}"]
[tenants.{TENANT}]
tokens_sha256 = ["{{greedy}}"]
opens_per_s = 20
opens_burst = 20
num_streams = 20
[admission]
slow_reader_s = {_SLOW_READER_S}
"""


def run(*, quick: bool) -> Figures:
    """Measures everything. A line a kind shows on a terminal."""
    figures, console = Figures("abuse"), Console(stderr=True)
    num_pairs, lasts_s = (1, 4.0) if quick else (3, 4.0)
    with _guarded() as (address, shown), servant(clients, shown[_GOOD]) as good, servant(abusers, address, shown) as bad:
        good.begin("open", address, _NUM_STREAMS, _NUM_STREAMS)
        good.answer()
        for kind in KINDS:
            console.log(kind)
            _measure(figures, kind, good, bad, num_pairs=num_pairs, lasts_s=lasts_s)
    return figures


def _measure(figures: Figures, kind: str, good: Servant, bad: Servant, *, num_pairs: int, lasts_s: float) -> None:
    times: dict[bool, list[float]] = {False: [], True: []}
    endings = Counter[str]()
    for number in range(num_pairs):
        for is_beside in (False, True) if number % 2 else (True, False):
            if is_beside:
                bad.begin("abuse", kind, lasts_s + _LEAD_S)
            good.begin("drive", _ROUNDS_PER_S, time.monotonic() + _LEAD_S, lasts_s)
            times[is_beside].append(1e3 * float(np.percentile(np.concatenate(good.answer()), 95)))
            if is_beside:
                endings.update(bad.answer())
    case: Case = {"system": "gateway", "verifier": "stub", "abuse": kind, "num_streams": _NUM_STREAMS, "rounds_per_s": _ROUNDS_PER_S}
    for is_beside, delays in times.items():
        add_median(figures, case | {"beside": is_beside}, "delay_ms_p95", delays, "ms")
    add_median(figures, case, "slowdown_p95", [after / before for before, after in zip(times[False], times[True], strict=True)], "times")
    for code, count in sorted(endings.items()):
        figures.add(case | {"code": code}, "num_endings", count, "streams")


@dataclass(frozen=True, slots=True)
class _Files:
    """Of a gateway. Picklable."""

    certificates: ServerCertificates
    tenants: Path


async def guarded_gateway(serve: Serve, replica: str, files: _Files) -> None:
    async with GatewayServer("127.0.0.1:0", Router([replica]), Security(files.certificates, files.tenants)) as server:
        await server.ready()
        await serve(f"127.0.0.1:{server.port}")


@contextmanager
def _guarded() -> Iterator[tuple[str, Mapping[str, Shown]]]:
    """The address of a gateway, and what each caller shows to it."""
    authority = Authority()
    tokens = {name: f"token-of-{name}" for name in (_GOOD, TENANT, STRANGER, EXPIRED)}
    shown = {
        name: Shown(authority.certificate, *authority.signs(name, days_left=-1 if name == EXPIRED else 1), token)
        for name, token in tokens.items()
    }
    with TemporaryDirectory() as name:
        folder = Path(name)
        own = dict(zip(("gateway.crt", "gateway.key"), authority.signs("gateway"), strict=True)) | {"ca.crt": authority.certificate}
        for file, content in own.items():
            (folder / file).write_bytes(content)
        (folder / "tenants.toml").write_text(_TENANTS.format(good=digest_of(tokens[_GOOD]), greedy=digest_of(tokens[TENANT])), "utf8")
        files = _Files(ServerCertificates(folder / "gateway.crt", folder / "gateway.key", folder / "ca.crt"), folder / "tenants.toml")
        with servant(stub_verifier) as stub, servant(guarded_gateway, stub.greeting, files) as gateway:
            yield gateway.greeting, shown


def tables(figures: Figures) -> list[Table]:
    rows = []
    for kind in KINDS:
        [slowdown] = rows_of(figures, "slowdown_p95", abuse=kind)
        alone, beside = (interval(rows_of(figures, "delay_ms_p95", abuse=kind, beside=each)[0]) for each in (False, True))
        endings = ", ".join(f"{row['value']:g} {row['case']['code']}" for row in rows_of(figures, "num_endings", abuse=kind))
        rows.append((kind, alone, beside, interval(slowdown), endings))
    header = "abuse", "p95 alone, ms", "beside it, ms", "times", "how attempts ended"
    return [Table("abuse", "what others feel of an abuser, all on this machine", header, tuple(rows))]


def show(figures: Figures) -> None:
    """Prints the table."""
    for table in tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Writes the table into the folder's abuse.md, where it has one."""
    if (page := folder / "abuse.md").exists():
        write_into(page, tables(figures))
        print(f"wrote the table of {page}")
