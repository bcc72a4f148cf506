"""`cactus bench acceptance`: its parts measure what they say, and what it writes can be read."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import acceptance, plots, rounds, tables, wire_size
from benchmarks.drafts import demo_contexts, synthetic_paths
from benchmarks.table import write_into
from cactus_core.acceptance import Acceptance
from cluster.figures import Figures

ROOT = Path(__file__).parent.parent.parent
ROW = {"case", "metric", "value", "unit", "low", "high"}


@pytest.fixture(scope="module")
def figures():
    """A little of everything that is quick to measure."""
    figures = Figures("acceptance")
    rounds.report(figures, rounds.synthetic_tallies(0, 24, quick=True), "synthetic", 1.0)
    tried = [*rounds.settings(1.0, quick=True)[:6], *rounds.settings(1.0, quick=True)[-8:]]
    contexts = demo_contexts(1.0, 1, 3)
    tallies = rounds.joined([rounds.tallied(paths, tried, 2) for paths in rounds.demo_sessions(contexts, 4, rounds.LENGTH, 64)])
    rounds.report(figures, tallies, "demo", 1.0)
    wire_size.measure(figures, 0.6, 64, quick=True)
    return figures


def test_figures_have_the_one_shape_and_survive_json(figures, tmp_path):
    figures.add({"rule": "x"}, "realised_kl_mean", float("inf"), "nats")
    figures.write(tmp_path / "figures.json")
    record = json.loads((tmp_path / "figures.json").read_text("utf8"), parse_constant=pytest.fail)
    assert set(record) == {"bench", "machine", "versions", "rows"}
    assert all(set(row) == ROW for row in record["rows"])
    assert record["rows"][-1]["value"] is None
    assert figures.rows.pop()["metric"] == "realised_kl_mean"


def test_more_paths_bring_more_and_a_relaxation_spends_what_it_may(figures):
    one, four = (figures.value("tokens_per_round", rule="nearest+block", pair="synthetic", K=k) for k in (1, 4))
    assert 1.0 <= one < four <= rounds.LENGTH + 1
    for row in figures.rows:
        if row["metric"] == "realised_kl_max" and row["case"]["relaxation"] == "certified":
            assert row["value"] <= row["case"]["strength"] + 1e-9


def test_every_rule_decides_on_the_same_drafts():
    paths = synthetic_paths(6, 4, 3, np.random.default_rng(0))
    tallies = rounds.tallied(paths, [rounds.Setting(Acceptance(name), 4) for name in ("first+token", "nearest+block")], 2)
    assert {len(tally.tokens[0]) for tally in tallies.values()} == {6}
    again = rounds.tallied(paths, list(tallies), 2)
    assert all((tally.tokens[0] == again[setting].tokens[0]).all() for setting, tally in tallies.items())


def test_plots_are_drawn_and_tables_find_their_place(figures, tmp_path):
    assert [path.name for path in plots.draw(figures, tmp_path)] == [
        "acceptance-by-k.png", "acceptance-by-k.svg", "acceptance-by-divergence.png", "acceptance-by-divergence.svg",
    ]  # fmt: skip
    page = tmp_path / "acceptance.md"
    page.write_text("before\n<!-- synthetic -->\nold\n<!-- end -->\nafter\n<!-- ahead -->\n<!-- end -->\nlast\n", "utf8")
    shown = tables.tables(figures)
    for _ in range(2):  # once more changes nothing
        write_into(page, shown)
        text = page.read_text("utf8")
        assert "old" not in text
        assert text.count("| **nearest+block** |") == 1
        assert all(word in text for word in ("before", "after", "last"))


def test_each_table_has_a_place_in_the_page():
    page = (ROOT / "docs/acceptance.md").read_text("utf8")
    for name in ("law", "limit", "demo-1", "demo-06", "synthetic", "ahead", "divergence", "bytes", "cost"):
        assert page.count(f"<!-- {name} -->") == 1


@pytest.mark.slow
def test_the_quick_benchmark_bears_out_what_is_claimed():
    figures = acceptance.run(quick=True)
    rows = figures.rows
    exact = [row["value"] for row in rows if row["metric"] == "law_tv_error" and row["case"]["label"] == "exact"]
    assert len(exact) > 10
    assert max(exact) <= 1e-12
    assert min(row["value"] for row in rows if row["metric"] == "law_tv_error" and row["case"]["rule"] == "spectr_gbv") > 0.01
    assert max(row["value"] for row in rows if row["metric"] == "share_of_bound") <= 1.0
    assert max(row["value"] for row in rows if row["metric"] == "share_of_limit") <= 1.0 + 1e-9
    assert min(row["value"] for row in rows if row["metric"] == "speedup_vs_dense") >= 20.0
    assert {row.name for row in tables.tables(figures)} >= {
        "law",
        "limit",
        "demo-1",
        "demo-06",
        "synthetic",
        "ahead",
        "divergence",
        "bytes",
        "cost",
    }
