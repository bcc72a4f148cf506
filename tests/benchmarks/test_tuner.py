"""The tuner's benchmark in virtual time: what it records is of the pair's own texts, and the page shows what was found."""

import json
from pathlib import Path

import pytest

from benchmarks import tuner
from cluster.figures import Figures
from edge.tuning.plan import DEEPEST, OFF, TreePlan

DOCS = Path(__file__).parent.parent.parent / "docs"
EASY = tuple(tuple(range(8)) for _ in range(96))  # every tree's first nodes come true, one below the other


def test_the_page_shows_the_figures_that_were_taken():
    figures = Figures("tuner", rows=json.loads((DOCS / "tuner.json").read_text("utf8"))["rows"])
    [table] = tuner.tables(figures)
    assert f"<!-- {table.name} -->\n{table.markdown()}\n<!-- end -->" in (DOCS / "link.md").read_text("utf8")


def test_a_recorded_text_says_how_far_trees_of_any_size_come_true():
    num_tokens, done = 10, []
    [text] = tuner.recorded([3], num_tokens, 0.7, lambda: done.append(1))
    assert (len(text), len(done)) == (num_tokens, 1)
    assert any(len(path) > 1 for path in text)
    assert all(list(path) == sorted(set(path)) for path in text)
    [again] = tuner.recorded([3], 4, 0.7, lambda: None)
    assert [path[:1] for path in again[:3]] == [path[:1] for path in text[:3]]  # a shorter text is the longer one's beginning


@pytest.mark.parametrize("profile", ["perfect", "regional"])
def test_the_best_plan_is_the_one_that_ends_first(profile):
    setting = tuner.Setting("padded to 30 ms", profile, 0.7)
    known = tuner._InHindsight(setting, [EASY])
    assert known.best != OFF
    assert known.took_s(known.best) == [min(known.took_s(plan)[0] for plan in tuner.plans())]
    assert known.took_s(TreePlan(4, DEEPEST, 0.0)) == [setting.fixed(TreePlan(4, DEEPEST, 0.0), EASY, 0).times[-1]]


def test_useless_drafts_are_left_off_whatever_the_link():
    texts, figures = [((),) * 96] * 3, Figures("tuner")
    for profile in ("near", "far"):
        tuner._compare(figures, tuner.Setting("as it is", profile, 1.0), texts, 1)
        assert (figures.value("speedup_vs_plain", profile=profile) or 0.0) > tuner.LEAST["speedup_vs_plain"]
        assert (figures.value("share_of_best_fixed", profile=profile) or 0.0) > 0.97
