"""The plan is held against the real system."""

import pytest

from benchmarks import plan
from benchmarks.plan import _stretch
from cluster.comparison import Taken
from edge.summary import Summary


def test_a_stretch_goes_from_the_first_draft_that_stood_to_near_the_end():
    rounds = [{"num_tokens": 1, "num_accepted": 0, "at_s": 0.1}, {"num_tokens": 4, "num_accepted": 3, "at_s": 0.2}]
    rounds += [{"num_tokens": 4, "num_accepted": 3, "at_s": 0.2 + 0.1 * number} for number in range(1, 9)]
    num_tokens, seconds, per_token = _stretch(Taken("", tuple(rounds), Summary(), 0, 0))
    assert num_tokens == 16
    assert seconds == pytest.approx(0.4)
    assert per_token == pytest.approx([0.025] * 16)


@pytest.mark.slow
def test_the_plan_is_compared_with_the_real_system(tmp_path):
    """How near it comes is the benchmark's business, on a quiet machine; here, that both sides tell of the same thing."""
    figures = plan.run(quick=True)
    ratios = [row["value"] for row in figures.rows if row["metric"] == "planned_over_measured"]
    assert len(ratios) == 6
    assert all(0.3 < ratio < 3.0 for ratio in ratios)
    page = tmp_path / "planning.md"
    page.write_text("<!-- plan -->\n<!-- end -->\n", "utf8")
    plan.document(figures, tmp_path)
    assert "| near | 2 | wait, 16 | tokens_per_s |" in page.read_text("utf8")
