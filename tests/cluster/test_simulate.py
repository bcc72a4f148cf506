"""`cactus simulate` as a person runs it, and what it makes of what it measured."""

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from cactus_core.errors import InvalidInput
from cluster import simulate
from cluster.comparison import Comparison, Sums, Taken
from cluster.figures import Figures
from cluster.simulate import SimulateOptions, run_simulation
from edge.summary import Summary
from tests.cluster.test_commands import one_line

OPTIONS = SimulateOptions("near", num_edges=2, verifier_delay_ms=0.0, max_tokens=40, temperature=1.0, seed=1)


def taken(*at_s, num_tokens=2, text="text"):
    """A decision of `num_tokens` at each moment."""
    rounds = tuple({"at_s": each, "num_tokens": num_tokens} for each in at_s)
    sums = Summary(num_tokens=num_tokens * len(at_s), num_rounds=len(at_s), ttft_s=at_s[0], wall_s=at_s[-1], verify_s=0.1)
    return Taken(text, rounds, sums, up_bytes=100, down_bytes=400)


def figures_of(path):
    rows = json.loads(path.read_text("utf8"))["rows"]
    return {(row["case"]["system"], row["case"]["edge"], row["metric"]): row["value"] for row in rows}


def test_time_per_token_is_shared_among_a_decisions_tokens_and_leaves_the_first_out():
    assert taken(1.0, 1.2, 1.6).per_token_s == pytest.approx([0.1, 0.1, 0.2, 0.2])


def test_of_edges_at_once_the_tokens_a_second_are_all_of_them_until_the_last_is_done():
    both = Sums((taken(0.5, 1.0), taken(0.5, 1.0, 2.0)))
    assert both.num_tokens == 10
    assert both.tokens_per_s == 5.0
    assert both.tokens_per_round == 2.0
    assert both.up_bytes_per_token == 20.0


def test_a_text_of_one_decision_has_no_time_per_token():
    assert Sums((taken(0.5),)).quantile_s(0.5) is None


def test_the_figures_compare_each_edge_and_all_of_them():
    figures = Figures("simulate")
    Comparison((taken(0.5, 1.0), taken(0.5, 1.0, text="other")), (taken(1.0, 2.0), taken(1.0, 4.0))).count(figures, {"pair": "demo"})
    assert figures.value("speedup_vs_plain", edge="1") == 2.0
    assert figures.value("speedup_vs_plain", edge="2") == 4.0
    assert figures.value("speedup_vs_plain", edge="all") == 4.0
    assert figures.value("ttft_ms", edge="1", system="plain") == 1000.0
    assert figures.value("texts_differing") == 1


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits_the_terminal_with_every_column_whole(width):
    slow = taken(2.1, 2.4, 4.4)
    chosen = replace(slow, summary=replace(slow.summary, num_resumes=10, speculation={"mode": "stream", "num_nodes": 96}))
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(Comparison((chosen, chosen), (slow, slow)).table(width))
    lines = console.export_text().splitlines()
    assert len(lines) == 2 + 1 + 6  # nothing is folded
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= width
    assert "stream, 96" in lines[3]
    assert "all edges" in lines[7]


def test_cuts_are_seeded_apart_and_before_the_end():
    options = replace(OPTIONS, num_cuts=5)
    assert options.cuts(0) == replace(OPTIONS, num_cuts=5).cuts(0)
    assert options.cuts(0) != options.cuts(1)
    assert len(set(options.cuts(0))) == 5
    assert all(1 <= place <= 36 for place in options.cuts(0))


def test_more_cuts_than_tokens_are_refused():
    with pytest.raises(InvalidInput, match="40 tokens leave room for 36 cuts, not 37"):
        replace(OPTIONS, num_cuts=37)


def test_bad_use_of_simulate_is_one_line_each(cactus, tmp_path):
    for arguments, says in (
        (("--link", "lunar"), "there is no link profile 'lunar'; choose one of: perfect"),
        (("--json", tmp_path / "no" / "figures.json"), "make it first"),
        (("--svg", tmp_path / "no" / "rounds.svg"), "make it first"),
        (("--max-tokens", 8, "--cuts", 8), "raise --max-tokens"),
    ):
        status, out, error = cactus.run("simulate", *arguments)
        assert (status, out) == (1, ""), arguments
        assert one_line(error), error
        assert says in error
    assert cactus.left_running() == []


def test_one_edge_is_simulated_with_table_picture_and_figures(cactus, tmp_path):
    figures, picture = tmp_path / "figures.json", tmp_path / "rounds.svg"
    line = ("simulate", "--link", "near", "--edges", 1, "--max-tokens", 24, "--json", figures, "--svg", picture)
    status, out, error = cactus.run(*line)
    assert (status, error) == (0, "")
    assert "near, emulated: 10 ms round trip" in out
    assert "edge 1 gets" in out
    assert "all edges" not in out.split("alone:", maxsplit=1)[0]
    assert picture.read_text("utf8").startswith("<svg")
    value = figures_of(figures)
    assert value["plain", "1", "tokens_per_round"] == 1.0
    assert value["plain", "1", "ttft_ms"] > 10.0  # a round trip
    assert value["cactus", "1", "tokens_per_s"] > 0
    assert value["cactus", "1", "down_bytes_per_token"] > 0
    assert value["cactus", "all", "speedup_vs_plain"] > 0
    assert cactus.left_running() == []


@pytest.mark.slow
async def test_several_replicas_stand_behind_the_gateway_and_each_verifies(monkeypatch, capsys):
    def told(port):
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("cactus_emitted_tokens_total "))

    emitted, part = [], simulate._part

    @contextlib.asynccontextmanager
    async def asked_before_its_end(*verb):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        own = ("--metrics", f"127.0.0.1:{port}") if verb[0] == "verifier" else ()
        async with part(*verb, *own) as process:
            yield process
            if own:
                emitted.append(await asyncio.to_thread(told, port))

    monkeypatch.setattr(simulate, "_part", asked_before_its_end)
    done = await run_simulation(replace(OPTIONS, max_tokens=8, num_replicas=2))
    assert len(emitted) == 2
    assert min(emitted) > 0
    assert sum(emitted) >= sum(each.summary.num_tokens for each in (*done.comparison.drafted, *done.comparison.alone))
    assert done.comparison.num_differing == 0
    assert {row["case"]["replicas"] for row in done.figures().rows} == {2}
    assert "the demo target on 2 replicas" in capsys.readouterr().out


def test_a_gateway_without_replicas_is_refused():
    with pytest.raises(InvalidInput, match="1 or more replicas behind it, not 0"):
        replace(OPTIONS, num_replicas=0)


@pytest.mark.slow
async def test_cut_links_resume_and_the_texts_are_those_of_the_links_that_were_not_cut(capfd):
    whole, cut = [await run_simulation(replace(OPTIONS, num_cuts=number)) for number in (0, 2)]
    for system in ("drafted", "alone"):
        before, after = getattr(whole.comparison, system), getattr(cut.comparison, system)
        assert [each.summary.num_resumes for each in before] == [0, 0]
        assert min(each.summary.num_resumes for each in after) >= 1
        assert [each.text for each in after] == [each.text for each in before]
    assert cut.comparison.num_differing == whole.comparison.num_differing == 0
    assert capfd.readouterr().out.count("sumes") == 1  # what never happened has no column


@pytest.mark.slow
def test_a_padded_verifier_is_labelled_wherever_its_figures_stand(cactus, tmp_path):
    figures, picture = tmp_path / "figures.json", tmp_path / "rounds.svg"
    line = ("simulate", "--edges", 2, "--max-tokens", 16, "--verifier-delay-ms", 15, "--json", figures, "--svg", picture)
    status, out, error = cactus.run(*line)
    assert (status, error) == (0, "every step is padded to at least 15 ms: emulated\n")
    assert "emulated: each step padded to 15 ms" in out
    assert "cloud verifies °" in out
    assert "all edges" in out
    assert "emulated: each step padded to 15 ms" in picture.read_text("utf8")
    cases = [row["case"] for row in json.loads(figures.read_text("utf8"))["rows"]]
    assert {(case["verifier_delay_ms"], case["emulated"]) for case in cases} == {(15.0, True)}


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_simulation_leaves_nothing_running(cactus, ending):
    with cactus.start("simulate", "--edges", 1, "--max-tokens", 1500, "--verifier-delay-ms", 50) as process:
        child(process, "generate")
        process.send_signal(ending)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert cactus.left_running() == []


@pytest.mark.slow
def test_a_verifier_that_dies_ends_the_simulation_with_one_line(cactus):
    with cactus.start("simulate", "--edges", 1, "--max-tokens", 1500, "--verifier-delay-ms", 50) as process:
        process.stderr.readline()  # "every step is padded ..."
        child(process, "generate")
        os.kill(child(process, "verifier"), signal.SIGKILL)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert one_line(error), error
    assert "the verifier ended with status -9" in error
    assert cactus.left_running() == []


def child(process, verb, within_s=60.0):
    """The process id of a simulation's part, once it runs."""
    if not Path("/proc/self/status").exists():
        pytest.skip("a process's children are found as only Linux shows them")
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for found in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_child = f"PPid:\t{process.pid}\n" in (found / "status").read_text("utf8")
                if is_child and f"\0{verb}\0".encode() in (found / "cmdline").read_bytes():
                    return int(found.name)
        time.sleep(0.1)
    raise AssertionError(f"no {verb} runs below {process.pid}")
