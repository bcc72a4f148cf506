"""The page reference/wire.md, made of proto/: its messages, fields and what the comments beside them say.

Knows the form of our .proto files, one declaration a line and comments above or beside; knows nothing of what messages are for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "proto/cactus_core/wire/v1/speculation.proto"
URI = "reference/wire.md"

_BLOCK = re.compile(r"(service|message|enum) (\w+) \{(\})?$")
_FIELD = re.compile(r"(?:(optional|repeated) )?([\w.]+) (\w+) = (\d+);$")
_VALUE = re.compile(r"(\w+) = (\d+);$")
_CALL = re.compile(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);$")


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[str, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Block:
    """A service, a message or an enum, and its rows in the order of the file."""

    kind: str
    name: str
    says: str
    rows: list[Row] = field(default_factory=list)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, URI, content=page(PROTO.read_text("utf8"))))
    return files


def page(proto: str) -> str:
    """Raises `ValueError` at a line that is of no known form, so that none is left out unseen."""
    preface, blocks = parsed(proto)
    known = {block.name for block in blocks}
    parts = ["# The wire", f"What `{PROTO.relative_to(ROOT)}` says, which is the contract between the two sides.", preface]
    for block in blocks:
        parts += [f"## {block.name}", f"*{block.kind}*", block.says]
        if block.rows:
            parts.append(_table(block, known))
    return "\n\n".join(part for part in parts if part) + "\n"


def parsed(proto: str) -> tuple[str, list[Block]]:
    """What stands before the syntax, and the blocks. A `oneof` is told by its fields' rows."""
    preface, blocks, comment, depth, oneof = "", [], [], 0, ""
    for number, raw in enumerate(proto.splitlines(), 1):
        line, beside = _split(raw.strip())
        if not line:
            comment.append(beside) if raw.strip() else comment.clear()
            continue
        says = _prose([*comment, beside] if beside else comment)
        comment = []
        if line.startswith("syntax"):
            preface = says
        elif line.startswith("package"):
            pass
        elif found := _BLOCK.match(line):
            blocks.append(Block(found[1], found[2], says))
            depth += not found[3]
        elif found := re.match(r"oneof (\w+) \{$", line):
            oneof, depth = found[1], depth + 1
        elif line == "}":
            oneof, depth = "", depth - 1
        elif found := _CALL.match(line):
            blocks[-1].rows.append(Row((found[1], f"{found[2] or ''}{found[3]}", f"{found[4] or ''}{found[5]}"), says))
        elif found := _FIELD.match(line):
            one_of = f"one of {oneof}" if oneof else found[1] or ""
            blocks[-1].rows.append(Row((found[4], found[3], f"{one_of} {found[2]}".strip()), says))
        elif found := _VALUE.match(line):
            blocks[-1].rows.append(Row((found[2], found[1]), says))
        else:
            raise ValueError(f"{PROTO.name}:{number}: a line of no known form: {line}")
    if depth:
        raise ValueError(f"{PROTO.name}: a block is left open")
    return preface, blocks


def _split(line: str) -> tuple[str, str]:
    code, _, comment = line.partition("//")
    return code.strip(), comment.removeprefix(" ")


def _prose(lines: list[str]) -> str:
    """Comments as Markdown: a numbered item begins a line of its own, what is *named* stays so, and names of fields are not emphasis."""
    text = "\n".join(lines).strip()
    return re.sub(r"(?<=\w)_(?=\w)|(?<= )\*(?=_)", lambda found: "\\" + found[0], text)


def _table(block: Block, known: set[str]) -> str:
    head = {"service": ("call", "takes", "gives"), "message": ("", "field", "type"), "enum": ("", "value")}[block.kind]
    lines = [" | ".join(("", *head, "", "")).strip(), "|" + "---|" * (len(head) + 1)]
    for row in block.rows:
        cells = [_linked(cell, known) if place != _name_of(block.kind) else f"`{cell}`" for place, cell in enumerate(row.cells)]
        lines.append("| " + " | ".join((*cells, _in_a_cell(row.says))) + " |")
    return "\n".join(lines)


def _name_of(kind: str) -> int:
    return 0 if kind == "service" else 1


def _linked(cell: str, known: set[str]) -> str:
    return re.sub(r"\w+", lambda found: f"[{found[0]}](#{found[0].lower()})" if found[0] in known else found[0], cell)


def _in_a_cell(says: str) -> str:
    return re.sub(r"\n+(?=\d\. )", "<br>", says).replace("\n\n", "<br>").replace("\n", " ").replace("|", "\\|")
