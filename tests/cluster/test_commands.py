"""The command line over a real cluster, and what it says when it cannot."""

import json
import signal
import socket

import pytest

from tests.integration.conftest import make_model


def one_line(error):
    return error.startswith("cactus: ") and error.count("\n") == 1


def test_generate_completes_a_prompt_on_the_cluster(cactus, cluster, draft, tmp_path):
    record = tmp_path / "record.json"
    line = ("generate", "def main(", "--endpoint", cluster, "--draft", draft, "--max-tokens", 30, "--seed", 4, "--json", record)
    status, out, error = cactus.run(*line)
    assert (status, error) == (0, "")
    done = json.loads(record.read_text("utf8"))
    assert out.startswith("def main(" + done["text"][:10])
    assert done["summary"]["num_tokens"] == len(done["tokens"]) <= 30
    assert {token["origin"] for token in done["tokens"]} <= {"accepted", "corrected", "bonus", "decoded"}


def test_a_seed_repeats_a_text(cactus, cluster, draft):
    line = ("generate", "import ", "--endpoint", cluster, "--draft", draft, "--max-tokens", 20, "--seed", 9)
    texts = [cactus.run(*line)[1].split("\n\n")[0] for _ in range(2)]
    assert texts[0] == texts[1]


def test_a_text_is_the_same_by_lookup_by_the_model_and_by_the_cloud_alone(cactus, cluster, draft):
    line = ("generate", "import os\nimport sys\nimport", "--endpoint", cluster, "--draft", draft, "--max-tokens", 24, "--seed", 9)
    flags = ("--rule", "coupled"), ("--plain", "--rule", "coupled"), ("--lookup", "--padded"), ("--tree", 8, "--wait-ms", 5, "--explain")
    texts = [cactus.run(*line, *own)[1].split("\n\n■")[0] for own in flags]
    assert len(set(texts)) == 1


def test_a_relaxed_text_keeps_to_its_budget_and_says_what_it_spent(cactus, cluster, draft, tmp_path):
    record = tmp_path / "record.json"
    line = ("generate", "def main(", "--endpoint", cluster, "--draft", draft, "--seed", 3, "--json", record)
    status, out, error = cactus.run(*line, "--max-tokens", 60, "--delta", 0.1, "--budget", 1.5)
    assert (status, error) == (0, "")
    done = json.loads(record.read_text("utf8"))
    spent = done["summary"]["divergence"]
    assert f"nearest+block, bounded: {spent:.2f} of 1.50 nats spent" in out
    assert 0.0 < spent <= done["summary"]["budget"] == 1.5
    assert sum(token["divergence"] for token in done["tokens"]) == pytest.approx(spent)
    assert done["acceptance"] == {"rule": "nearest+block", "relaxation": "certified", "strength": 0.1, "budget": 1.5, "label": "bounded"}


def test_describe_names_model_and_rules(cactus, cluster):
    status, out, _ = cactus.run("describe", "--endpoint", cluster)
    assert status == 0
    assert "serves target" in out
    assert "nearest+block (exact)" in out
    assert "certified (delta)" in out


def test_bad_use_of_generate_is_one_line_each(cactus, cluster, draft, tmp_path):
    make_model(tmp_path / "other", 5)
    (tmp_path / "empty").mkdir()
    for arguments, says in (
        (("--endpoint", "127.0.0.1:1", "--draft", draft), "cannot reach 127.0.0.1:1"),
        (("--endpoint", cluster, "--draft", tmp_path / "other"), "use a draft made for that target"),
        (("--endpoint", cluster, "--draft", tmp_path / "empty"), "cactus export"),
        (("--endpoint", cluster, "--draft", draft, "--max-tokens", 100_000), "2048 positions"),
        (("--endpoint", cluster, "--draft", draft, "--top-p", 0), "top_p"),
        (("--endpoint", cluster, "--draft", draft, "--delta", -1), "delta must be 0 or more"),
        (("--endpoint", cluster, "--draft", draft, "--budget", 3), "--budget needs something to spend it on"),
        (("--endpoint", cluster, "--draft", draft, "--rule", "wishful"), "no acceptance rule is called 'wishful'"),
        (("--endpoint", cluster, "--draft", draft, "--plain", "--lookup"), "one or the other"),
        (("--endpoint", cluster, "--draft", draft, "--tree", 8, "--drafts", 4, "--rule", "coupled"), "--drafts and --block shape blocks"),
        (("--endpoint", cluster, "--draft", draft, "--tree", 8, "--delta", 0.1), "--tree is for the rule coupled"),
        (("--endpoint", cluster, "--draft", draft, "--wait-ms", 8), "--wait-ms goes with --tree"),
    ):
        status, out, error = cactus.run("generate", "def f(", *arguments)
        assert (status, out) == (1, ""), arguments
        assert one_line(error), error
        assert says in error


def test_a_bad_flag_is_said_with_the_usage(cactus):
    status, _, error = cactus.run("generate", "--dafts", 4)
    assert status == 2
    assert "--dafts" in error


def test_up_says_that_its_port_is_in_use_and_leaves_nothing_running(cactus):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, _, error = cactus.run("up", "--listen", f"127.0.0.1:{taken.getsockname()[1]}", "--device", "cpu")
    assert status == 1
    assert one_line(error), error
    assert "choose another with --listen" in error
    assert cactus.left_running() == []


@pytest.mark.slow
def test_up_says_that_there_is_no_such_model_and_leaves_nothing_running(cactus, tmp_path):
    status, _, error = cactus.run("up", "--listen", "127.0.0.1:0", "--device", "cpu", "--model", tmp_path / "nothing")
    assert status == 1
    assert one_line(error), error
    assert "nothing" in error
    assert cactus.left_running() == []


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_running(cactus, ending):
    with cactus.start("demo", "--max-tokens", 1500) as process:
        process.stdout.readline()  # "... are up after ...": the edge is about to start
        process.send_signal(ending)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert cactus.left_running() == []


def test_the_demo_shows_both_systems_and_writes_their_figures(cactus, tmp_path):
    figures = tmp_path / "figures.json"
    status, out, error = cactus.run("demo", "--max-tokens", 80, "--delta", 0.05, "--budget", 1, "--json", figures)
    assert (status, error) == (0, "")
    assert "cloud alone" in out
    rows = json.loads(figures.read_text("utf8"))["rows"]
    value = {(row["case"]["system"], row["metric"]): row["value"] for row in rows}
    assert value["plain", "tokens_per_round"] == 1.0
    assert value["cactus", "tokens_per_round"] > 2.0
    assert 0 < value["cactus", "up_bytes_per_drafted_token"] <= 700
    assert value["cactus", "tokens_per_s"] > 0
    assert 0 < value["cactus", "divergence"] <= 1
    assert cactus.left_running() == []
