"""The pages of the repository, and what they show to be typed: command lines and Python.

Blocks are fenced, or indented by four spaces where no list is. Knows Markdown's blocks; knows nothing of what commands do.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "models/demo/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_PROGRAM = re.compile(r"(?:\.venv/bin/)?(cactus|make|python|pip|pytest|ruff|curl|docker|ray|kubectl|git)\b")


@dataclass(frozen=True, slots=True)
class Shown:
    """One command line as a page has it, without its comment and with its continuation lines joined."""

    page: str
    line: str

    @property
    def typed(self) -> str:
        return self.line.removeprefix(".venv/bin/")

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of every block in order; the language of an indented one is empty."""
    found, fence, language, lines = [], False, "", list[str]()
    for line in [*text.splitlines(), ""]:
        if line.startswith("```"):
            if fence or lines:
                found.append((language, "\n".join(lines)))
            fence, language, lines = not fence, line.removeprefix("```").strip(), []
        elif fence or line.startswith("    "):
            lines.append(line if fence else line[4:])
        elif lines and line:
            found.append(("", "\n".join(lines)))
            lines = []
        elif lines:
            lines.append("")
    return [*found, ("", "\n".join(lines))] if lines else found


def commands() -> list[Shown]:
    """Each once, in the order of pages."""
    found = dict[tuple[str, str], Shown]()
    for page in PAGES:
        for language, code in blocks(page.read_text("utf8")):
            if language not in ("", "sh"):
                continue
            for line in code.replace("\\\n", " ").splitlines():
                if _PROGRAM.match(line):
                    shown = Shown(str(page.relative_to(ROOT)), re.sub(r"\s+#\s.*$", "", " ".join(line.split())))
                    found.setdefault((shown.page, shown.line), shown)
    return list(found.values())


def programs() -> list[tuple[str, str]]:
    """(page and number, code) of every block of Python."""
    return [
        (f"{page.relative_to(ROOT)} {number}", textwrap.dedent(code))
        for page in PAGES
        for number, code in enumerate((code for language, code in blocks(page.read_text("utf8")) if language == "python"), 1)
    ]
