"""A completion as it streams, in colours that say where each token came from."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from cactus_core.acceptance import TOKEN_LEVEL, Acceptance
from edge.client import Completion, Piece
from edge.speculate import Origin
from edge.summary import Summary

STYLES = {Origin.ACCEPTED: "green", Origin.CORRECTED: "yellow", Origin.BONUS: "bold cyan", Origin.DECODED: "default"}


class Terminal:
    """Prints to standard output; in colours where that is a terminal (rich's FORCE_COLOR and NO_COLOR are honoured)."""

    def __init__(self, prompt: str) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._unshown = prompt

    def show(self, piece: Piece) -> None:
        """Prints the next piece; the first, which says that all is well, brings the prompt with it."""
        self._console.print(Text(self._unshown, "dim"), end="")
        self._unshown = ""
        self._console.print(Text(piece.text, STYLES[piece.token.origin]), end="")
        self._console.file.flush()

    def show_end(self, completion: Completion) -> None:
        summary = completion.summary
        legend = Text("\n\n")
        for origin in (Origin.ACCEPTED, Origin.CORRECTED, Origin.BONUS) if summary.num_drafted else (Origin.DECODED,):
            legend.append(f"■ {origin}  ", STYLES[origin])
        legend.append(f"{summary.num_tokens} tokens in {summary.num_rounds} rounds, {summary.tokens_per_s:.0f} tokens/s", "dim")
        self._console.print(legend)
        if summary.num_drafted:
            self._console.print(Text(acceptance_line(completion.acceptance, summary), "dim"))


def acceptance_line(acceptance: Acceptance, summary: Summary) -> str:
    """What decided, what that promises, and what was spent: "nearest+block, bounded: 1.32 of 3.00 nats spent"."""
    name = acceptance.relaxation if acceptance.relaxation in TOKEN_LEVEL else acceptance.rule
    if not acceptance.relaxation:
        return f"{name}, {acceptance.label}"
    budget = "" if summary.budget is None else f" of {summary.budget:.2f}"
    return f"{name}, {acceptance.label}: {summary.divergence:.2f}{budget} nats spent"
