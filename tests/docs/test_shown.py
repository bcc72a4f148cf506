"""Whatever a page shows to be typed is understood, and what can be run here is run."""

import re
import shlex
import subprocess

import pytest
import typer

from cluster.cli import app
from tests.docs.pages import PAGES, ROOT, commands, programs
from tests.docs.trying import WAYS, How, to_try, way_of

CLI = typer.main.get_command(app)
OF_CACTUS = sorted({shown.typed for shown in commands() if shown.typed.startswith("cactus ")})
SHORT = ("--max-tokens", "12")  # the last of a flag counts


@pytest.mark.parametrize("line", OF_CACTUS)
def test_shown_command_is_understood(line):
    verb, *arguments = shlex.split(line.split(" > ")[0])[1:]
    CLI.commands[verb].make_context(verb, arguments)  # parses and checks; runs nothing


@pytest.mark.parametrize("line", sorted({c for page in PAGES for c in re.findall(r"`(cactus [a-z]+ [^`…]*)`", page.read_text("utf8"))}))
def test_command_inside_a_sentence_has_flags_that_exist(line):
    verb, *arguments = line.split()[1:]
    known = {flag for parameter in CLI.commands[verb].params for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_each_shown_command_has_a_way_to_be_tried_and_each_way_a_command():
    used = {way_of(shown) for shown in commands()}
    assert [way for way in WAYS if way not in used] == []
    assert all(way.why for way in WAYS if way.how is How.NOT_HERE)


def test_pages_show_every_verb():
    assert {line.split()[1] for line in OF_CACTUS} == set(CLI.commands)


@pytest.mark.parametrize("page", sorted({shown.page for shown in to_try(How.NOW)}))
def test_commands_of_a_page_do_what_it_says_one_after_the_other(page, living, checkout, monkeypatch, capfd):
    monkeypatch.chdir(checkout)
    for shown in to_try(How.NOW):
        if shown.page == page:
            run_now(shlex.split(living.here(shown.typed).split(" > ")[0]), living)
            assert capfd.readouterr().out, shown


def run_now(line, living):
    program, *arguments = line
    if program == "curl":
        subprocess.run([program, *arguments, "--fail"], check=True, timeout=60)
        return
    if arguments[0] == "generate":
        arguments += [*SHORT, *(() if "--endpoint" in arguments else ("--endpoint", living.here("127.0.0.1:7800")))]
    assert CLI.main(arguments, prog_name="cactus", standalone_mode=False) in (None, 0), line


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in programs()])
def test_program_of_a_page_runs(code, living, checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    exec(compile(living.here(code), "page", "exec"), {"__name__": "__main__"})  # noqa: S102  # a page of ours


def test_make_targets_that_are_shown_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf8"), re.MULTILINE))
    shown = {shown.typed.split()[1] for shown in commands() if shown.typed.startswith("make ")}
    assert {"demo", "test"} <= shown <= targets


def test_files_that_are_shown_exist():
    named = {name for shown in commands() for name in re.findall(r"(?:examples|manifests|models/demo)/[\w/.-]+", shown.line)}
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_files_that_the_readme_names_exist():
    named = re.findall(r"`((?:edge|cloud|cluster|cactus_core|proto|models|docs)/[\w/.]+\.\w+)`", (ROOT / "README.md").read_text("utf8"))
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
