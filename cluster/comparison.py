"""What edges got with drafts, beside the same requests decoded by the cloud alone: as figures and as a table.

Knows what was measured; knows nothing of how it was run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from cluster.figures import Case, Figures
from edge.summary import Summary

_TITLES = ("\ntokens", "\nper s", "times\nalone", "first\nms", "p50\nms", "p95\nms", "per\nround", "up\nB", "down\nB")
_ROOMY = 96  # columns


@dataclass(frozen=True, slots=True)
class Taken:
    """One request: what `cactus generate --json` wrote of it, and what went over its link."""

    text: str
    rounds: tuple[dict[str, Any], ...]
    summary: Summary
    up_bytes: int
    down_bytes: int
    tokens: tuple[int, ...] = ()

    @property
    def per_token_s(self) -> list[float]:
        """From one decision to the next, shared among its tokens; the first decision's are not among them."""
        pairs = zip(self.rounds, self.rounds[1:], strict=False)
        return [(done["at_s"] - before["at_s"]) / done["num_tokens"] for before, done in pairs for _ in range(done["num_tokens"])]


@dataclass(frozen=True, slots=True)
class Sums:
    """Of one request or of several that ran at once: their tokens a second are all of them until the last is done."""

    taken: tuple[Taken, ...]

    @property
    def num_tokens(self) -> int:
        return sum(each.summary.num_tokens for each in self.taken)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / max(each.summary.wall_s for each in self.taken)

    @property
    def ttft_s(self) -> float:
        """The median where there are several."""
        return float(np.median([each.summary.ttft_s for each in self.taken]))

    @property
    def tokens_per_round(self) -> float:
        return self.num_tokens / sum(each.summary.num_rounds for each in self.taken)

    @property
    def up_bytes_per_token(self) -> float:
        return sum(each.up_bytes for each in self.taken) / self.num_tokens

    @property
    def down_bytes_per_token(self) -> float:
        return sum(each.down_bytes for each in self.taken) / self.num_tokens

    @property
    def verifier_s_per_token(self) -> float:
        return sum(each.summary.verify_s for each in self.taken) / self.num_tokens

    @property
    def num_resumes(self) -> int:
        return sum(each.summary.num_resumes for each in self.taken)

    def quantile_s(self, share: float) -> float | None:
        """Of the time per token; None where no token followed another decision's."""
        apart = [seconds for each in self.taken for seconds in each.per_token_s]
        return float(np.quantile(apart, share)) if apart else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same requests twice, an edge each: `drafted` and `alone`, in the edges' order."""

    drafted: tuple[Taken, ...]
    alone: tuple[Taken, ...]

    @property
    def num_differing(self) -> int:
        """Texts that drafts changed. The coupled rule promises none, up to the last bits of a logit."""
        return sum(ours.text != theirs.text for ours, theirs in zip(self.drafted, self.alone, strict=True))

    def count(self, figures: Figures, case: Case) -> None:
        """Adds all figures: of each edge, and of all together as the edge "all"."""
        for name, ours, theirs in self._rows():
            for system, sums in (("cactus", ours), ("plain", theirs)):
                of = case | {"system": system, "edge": name}
                figures.add(of, "tokens_per_s", sums.tokens_per_s, "tokens/s")
                figures.add(of, "ttft_ms", sums.ttft_s * 1e3, "ms")
                for percent in (50, 95):
                    if (seconds := sums.quantile_s(percent / 100)) is not None:
                        figures.add(of, f"time_per_token_ms_p{percent}", seconds * 1e3, "ms")
                figures.add(of, "tokens_per_round", sums.tokens_per_round, "tokens")
                figures.add(of, "up_bytes_per_token", sums.up_bytes_per_token, "bytes")
                figures.add(of, "down_bytes_per_token", sums.down_bytes_per_token, "bytes")
                figures.add(of, "verifier_s_per_token", sums.verifier_s_per_token, "s")
                figures.add(of, "num_faults", sums.num_resumes, "times that the link was lost and the text went on")
            figures.add(case | {"system": "cactus", "edge": name}, "speedup_vs_plain", ours.tokens_per_s / theirs.tokens_per_s, "times")
        figures.add(case | {"system": "cactus", "edge": "all"}, "texts_differing", self.num_differing, "texts")

    def table(self, width: int) -> Table:
        """Two rows an edge; what never happened has no column. Fits 80 columns, and is roomier where `width` allows it."""
        has_resumes = Sums((*self.drafted, *self.alone)).num_resumes > 0
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1 if width >= _ROOMY else 0, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("", no_wrap=True)
        for title in _TITLES:
            table.add_column(title, justify="right")
        table.add_column("tuner\nchose", no_wrap=True)
        if has_resumes:
            table.add_column("re-\nsumes", justify="right")
        for name, ours, theirs in self._rows():
            if name == "all" and len(self.drafted) == 1:
                continue
            label = "all edges" if name == "all" else f"edge {name}"
            chosen = "" if name == "all" else _choice(ours.taken[0])
            for sums, row, end in ((ours, [label, *_cells(ours, theirs)], chosen), (theirs, ["  alone", *_cells(theirs)], "")):
                table.add_row(*row, end, *([str(sums.num_resumes)] if has_resumes else []), style="" if sums is ours else "dim")
        return table

    def _rows(self) -> list[tuple[str, Sums, Sums]]:
        pairs = zip(self.drafted, self.alone, strict=True)
        one_by_one = [(str(number), Sums((ours,)), Sums((theirs,))) for number, (ours, theirs) in enumerate(pairs, 1)]
        return [*one_by_one, ("all", Sums(self.drafted), Sums(self.alone))]


def _cells(sums: Sums, alone: Sums | None = None) -> Sequence[str]:
    apart = [sums.quantile_s(share) for share in (0.5, 0.95)]
    return (
        str(sums.num_tokens),
        f"{sums.tokens_per_s:.1f}",
        f"{sums.tokens_per_s / alone.tokens_per_s:.2f}" if alone is not None else "",
        f"{sums.ttft_s * 1e3:.0f}",
        *("" if seconds is None else f"{seconds * 1e3:.1f}" for seconds in apart),
        f"{sums.tokens_per_round:.2f}",
        f"{sums.up_bytes_per_token:.0f}",
        f"{sums.down_bytes_per_token:.0f}",
    )


def _choice(taken: Taken) -> str:
    """In the end: "stream, 24", the nodes of a tree, or "off"."""
    if taken.summary.drafter_error:
        return "drafter failed"
    chosen = taken.summary.speculation
    return f"{chosen['mode']}, {chosen['num_nodes']}" if chosen.get("num_nodes") else str(chosen.get("mode", ""))
