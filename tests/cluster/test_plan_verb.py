"""`cactus plan` as a person runs it."""

import json

import pytest

from cactus_core.errors import InvalidInput
from cluster.plan_cli import plan


def test_plan_answers_and_writes_its_figures(cactus, tmp_path):
    device = tmp_path / "mine.yaml"
    device.write_text("name: mine\ndraft_s: {8: 0.01}\n", "utf8")
    curve = tmp_path / "curve.yaml"
    curve.write_text("name: curve\nsurvival: {8: [0.8, 0.6, 0.4]}\n", "utf8")
    figures = tmp_path / "plan.json"
    line = ("--device", device, "--acceptance", curve, "--link", "near", "--verifier", "cpu-demo-30ms", "--clients", 2, "--json", figures)
    status, out, error = cactus.run("plan", *line)
    assert (status, error) == (0, "")
    assert "Clients that one verifier carries at a p95 of 50 ms a token" in out
    assert json.loads(figures.read_text("utf8"))["bench"] == "plan"


def test_plan_lists_its_profiles(capsys):
    plan(names=True)
    assert {"raspberry-pi-5", "h100-qwen3-8b", "demo-t1", "regional"} <= set(capsys.readouterr().out.replace(",", "").split())


def test_bad_use_of_plan_says_what_to_do(tmp_path):
    (tmp_path / "bad.yaml").write_text("name: x\ndraft_ms: {8: 1}\n", "utf8")
    for arguments, says in (
        ({"device": "toaster"}, "there is no device profile 'toaster'"),
        ({"device": str(tmp_path / "bad.yaml")}, "has no field 'draft_ms'"),
        ({"link": "tin-can"}, "there is no link profile 'tin-can'"),
        ({"plot": tmp_path / "plan.txt"}, "a plot is a file that ends in"),
        ({"json_file": tmp_path / "no" / "plan.json"}, "make it first"),
    ):
        with pytest.raises(InvalidInput, match=says):
            plan(**arguments)
