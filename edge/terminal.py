"""A completion as it streams, in colours that say where each token came from."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cactus_core.acceptance import TOKEN_LEVEL, Acceptance
from edge.completion import Completion, Piece, Retraction
from edge.rounds import Origin
from edge.summary import Summary

STYLES = {
    Origin.ACCEPTED: "green",
    Origin.CORRECTED: "yellow",
    Origin.BONUS: "bold cyan",
    Origin.DECODED: "default",
    Origin.UNVERIFIED: "italic magenta",
}


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

    def take_back(self, retraction: Retraction) -> None:
        """Says what is taken back: what a terminal has shown stays shown."""
        self._console.print(Text(f" ⌫{retraction.num_tokens} ", "bold magenta"), end="")

    def show_end(self, completion: Completion) -> None:
        summary = completion.summary
        legend = Text("\n\n")
        seen = {token.origin for token in completion.tokens}
        for origin in (origin for origin in Origin if origin in seen):
            legend.append(f"■ {origin}  ", STYLES[origin])
        legend.append(f"{summary.num_tokens} tokens in {summary.num_rounds} rounds, {summary.tokens_per_s:.0f} tokens/s", "dim")
        self._console.print(legend)
        if summary.num_drafted:
            self._console.print(Text(acceptance_line(completion.acceptance, summary), "dim"))
        if summary.num_resumes:
            self._console.print(Text(f"the link was lost {summary.num_resumes} times; the text went on where it stood", "yellow"))
        if summary.num_retracted:
            self._console.print(Text(f"{summary.num_retracted} tokens that the draft wrote alone were taken back", "magenta"))
        if summary.drafter_error:
            self._console.print(Text(f"the drafter failed ({summary.drafter_error}); the cloud decoded alone from there", "yellow"))

    def explain(self, completion: Completion) -> None:
        """What the tuner measured, expected and chose."""
        self._console.print(explanation(completion.summary.speculation))


def explanation(found: Mapping[str, object]) -> Table:
    """A tuner's figures, a line for each name; of a figure by size all sizes in one line, of several forecasts one line each."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in found.items():
        table.add_row(name.replace("_", " "), _shown(value))
    return table


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(_shown(each) for each in value)
    if isinstance(value, dict):
        apart = "\n" if any(isinstance(each, dict) for each in value.values()) else ", "
        return apart.join(f"{str(key).replace('_', ' ')} {_shown(each)}" for key, each in value.items())
    return str(value)


def acceptance_line(acceptance: Acceptance, summary: Summary) -> str:
    """What decided, what that promises, and what was spent: "nearest+block, bounded: 1.32 of 3.00 nats spent"."""
    name = acceptance.relaxation if acceptance.relaxation in TOKEN_LEVEL else acceptance.rule
    if not acceptance.relaxation:
        return f"{name}, {acceptance.label}"
    budget = "" if summary.budget is None else f" of {summary.budget:.2f}"
    return f"{name}, {acceptance.label}: {summary.divergence:.2f}{budget} nats spent"
