"""An examination: the checks that were asked for, in order, shown as they are done.

Knows which checks there are; knows nothing of what they look at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from cactus_core.errors import CactusError, InvalidInput
from cluster.doctor.endpoint import Reached, check_endpoint
from cluster.doctor.finding import Finding, Health, bad
from cluster.doctor.machine import check_machine, check_ray
from cluster.planning.drafted_along import DraftedAlong

_MARKS = {Health.GOOD: ("✓", "green"), Health.NOTE: ("!", "yellow"), Health.BAD: ("✗", "red")}
_WIDTH = 17
_ASSUMED = "Watts and joules are assumed: give the device's own."


@dataclass(frozen=True, slots=True)
class Examination:
    """What to look at: the machine always; Ray unless `quick`; an endpoint and a draft where they are named. With a `profile` the device's
    is written there.
    """

    endpoint: str | None
    draft: str | None
    profile: Path | None
    quick: bool

    def run(self, console: Console) -> bool:
        """Shows findings as they are made; whether none of them is bad."""
        sheet = _Sheet(console)
        sheet.title("Machine")
        sheet.add(check_machine())
        if not self.quick:
            with console.status("starting a Ray ..."):
                ray = check_ray()
            sheet.add([ray])
        reached = None
        if self.endpoint is not None:
            sheet.title(f"Endpoint {self.endpoint}")
            findings, reached = asyncio.run(check_endpoint(self.endpoint))
            sheet.add(findings)
        if self.draft is not None:
            sheet.title(f"Draft {self.draft}")
            self._look_at_draft(self.draft, reached, sheet, console)
        sheet.end()
        return not sheet.num_of[Health.BAD]

    def _look_at_draft(self, source: str, reached: Reached | None, sheet: _Sheet, console: Console) -> None:
        from cluster.doctor import pair
        from edge.drafting.onnx_drafter import OnnxDrafter
        from edge.exporting.draft_folder import draft_folder
        from edge.tokenizer import Tokenizer

        try:
            with console.status("loading the draft ..."):
                folder = draft_folder(source)
                tokenizer, drafter = Tokenizer.load(folder), OnnxDrafter.load(folder)
        except CactusError as error:
            sheet.add([bad("draft", str(error), "name a folder of `cactus export`, a checkpoint or a hub name")])
            return
        heard = None
        if reached is not None and self.endpoint is not None:
            findings = pair.check_vocabulary(tokenizer, drafter, reached)
            sheet.add(findings)
            if all(finding.health is not Health.BAD for finding in findings):
                try:
                    with console.status("the target writes a text ..."):
                        heard = asyncio.run(pair.heard_from(self.endpoint, tokenizer, drafter))
                except CactusError as error:
                    sheet.add([pair.unreachable(error)])
        with console.status("drafting along it ..."):
            along = pair.drafted_here(drafter, tokenizer, heard.text if heard is not None else None)
        sheet.add([pair.check_speed(along)])
        if heard is not None and reached is not None:
            sheet.add(pair.check_worth(along, heard, reached))
        if self.profile is not None:
            _write(self.profile, source, along)
            console.print(Text(f"  wrote {self.profile}: cactus plan --device {self.profile}", "dim"))


class _Sheet:
    """What was found, as a person reads it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.num_of = dict.fromkeys(Health, 0)

    def title(self, text: str) -> None:
        self._console.print(Text(f"{text}", "bold"))

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.num_of[finding.health] += 1
            mark, style = _MARKS[finding.health]
            line = Table.grid(Column(width=2), Column(width=_WIDTH), Column())
            line.add_row(Text(mark, style), Text(finding.what, "bold"), Text(finding.says))
            if finding.remedy:
                line.add_row("", "", Text.assemble(("→ ", style), finding.remedy))
            self._console.print(Padding(line, (0, 0, 0, 2)))

    def end(self) -> None:
        bad_ones, notes = self.num_of[Health.BAD], self.num_of[Health.NOTE]
        said = f"{bad_ones} to mend" if bad_ones else "all is well"
        said += f", {notes} worth knowing" if notes else ""
        self._console.print(Text(f"\n{said}.", "red" if bad_ones else "green"))


def _write(path: Path, source: str, along: DraftedAlong) -> None:
    from cluster.planning.profile_files import written

    if not along.draft_s:
        raise InvalidInput("too few trees were drafted to write a profile; try another draft")
    comment = f"Measured by `cactus doctor --draft {source} --profile {path.name}`, trees along a text, one thread.\n{_ASSUMED}"
    record = {
        "name": path.stem,
        "draft_s": along.draft_s,
        "draft_spread": along.draft_spread,
        "draft_w": 2.0,
        "idle_w": 0.3,
        "byte_j": 5e-6,
    }
    path.write_text(written(record, comment), "utf8")
