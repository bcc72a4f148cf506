"""The quality bench writes texts and counts what they cost."""

import pytest

from benchmarks import quality
from cactus_core.acceptance import RELAXATIONS, TOKEN_LEVEL


def test_every_relaxation_is_measured_beside_the_exact_rule():
    asked = quality.acceptances(quick=False)
    assert asked[0].relaxation == ""
    assert {each.relaxation for each in asked[1:]} >= ({*RELAXATIONS, *TOKEN_LEVEL} - {"cactus_exact"})


def test_a_certified_text_spends_within_its_delta_and_the_exact_one_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(quality, "_QUICK", {"certified": (0.1,), "top_k": (5.0,)})
    monkeypatch.setattr(quality, "_FULL", {"certified": (0.1,), "top_k": (5.0,)})
    monkeypatch.setattr(quality, "_QUICK_TEXTS", (2, 24))
    figures = quality.run(quick=True)
    exact, certified, top_k = quality.tables(figures)[0].rows
    assert exact[4:6] == ("0", "0")
    assert 0.0 < figures.value("realised_kl_max", relaxation="certified") <= 0.1 + 1e-6
    assert float(top_k[4]) > float(certified[4])
    assert all(row["value"] < 0.0 for row in figures.rows if row["metric"] == "logprob_mean")
    page = tmp_path / "quality.md"
    page.write_text("<!-- quality -->\n<!-- end -->\n", "utf8")
    quality.document(figures, tmp_path)
    assert "| certified | 0.1 | bounded |" in page.read_text("utf8")
    assert (tmp_path / "quality.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("flags", "says"), [(("--target", "x"), "are a pair"), (("--target", "x", "--draft", "y"), "measures the demo pair")]
)
def test_another_pair_is_for_quality_alone(flags, says):
    from typer.testing import CliRunner

    from cluster.cli import app

    result = CliRunner().invoke(app, ["bench", "acceptance", *flags])
    assert says in str(result.exception)
