"""Every command that a README shows is one that exists, with the flags it has."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from cluster.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "models/demo/README.md",
    ROOT / "docker-compose.yml",
]
TEXTS = [re.sub(r" \\\n\s*", " ", page.read_text("utf8")) for page in PAGES]  # with lines that go on as one
COMMANDS = sorted({line.strip(" #") for text in TEXTS for line in re.findall(r"cactus [a-z]+ [^>\n]*", text)})
SHOWN = [line for line in COMMANDS if not re.search(r"`|, ", line)]


@pytest.mark.parametrize("line", SHOWN)
def test_shown_command_is_understood(line):
    verb, *arguments = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app).commands[verb]
    command.make_context(verb, arguments)  # parses and checks; runs nothing


def test_readme_shows_each_use():
    assert {line.split()[1] for line in SHOWN} >= {"up", "generate", "export", "demo"}


def test_make_targets_that_are_shown_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf8"), re.MULTILINE))
    shown = {target for page in PAGES for target in re.findall(r"^ +make ([a-z-]+)", page.read_text("utf8"), re.MULTILINE)}
    assert {"demo", "test"} <= shown <= targets


def test_links_lead_somewhere():
    links = {
        (page, link)
        for page in PAGES
        if page.suffix == ".md"
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf8"))
    }
    assert len(links) > 40
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_files_that_are_named_exist():
    named = re.findall(r"`((?:edge|cloud|cluster|cactus_core|proto|models|docs)/[\w/.]+\.\w+)`", (ROOT / "README.md").read_text("utf8"))
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
