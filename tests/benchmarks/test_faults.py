"""The faults' benchmark: it does harm, and no text shows it."""

import json
from pathlib import Path

import pytest

from benchmarks import faults
from cluster.figures import Figures

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_page_shows_the_figures_that_were_taken():
    figures = Figures("faults", rows=json.loads((DOCS / "faults.json").read_text("utf8"))["rows"])
    page = (DOCS / "faults.md").read_text("utf8")
    for table in faults.tables(figures):
        assert f"<!-- {table.name} -->\n{table.markdown()}\n<!-- end -->" in page


@pytest.mark.slow
def test_no_text_of_a_quick_run_differs_and_every_request_ends_well():
    figures = faults.run(quick=True)
    assert figures.value("num_faults", fault="all") >= 20
    assert figures.value("texts_differing") == 0
    assert figures.value("num_errors", error="any") == 0
