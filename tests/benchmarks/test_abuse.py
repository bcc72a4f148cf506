"""The abusers' benchmark: each kind gets its status, and the page shows what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks import abuse
from benchmarks.abusers import KINDS
from benchmarks.table import rows_of
from cluster.figures import Figures

DOCS = Path(__file__).parent.parent.parent / "docs"
ENDINGS = {
    "unauthenticated": {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"},  # the latter of its host, once that has asked too often
    "expired certificate": {"closed", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "ConnectionResetError"},  # whom it let in it would not close
    "over quota": {"OK", "RESOURCE_EXHAUSTED"},
    "1 GB message": {"RESOURCE_EXHAUSTED"},
    "slow reader": {"RESOURCE_EXHAUSTED"},
    "flood of opens": {"OK", "RESOURCE_EXHAUSTED"},
}


def check(figures):
    for kind in KINDS:
        endings = {row["case"]["code"] for row in rows_of(figures, "num_endings", abuse=kind)}
        assert endings
        assert endings <= ENDINGS[kind], kind


def test_the_page_shows_the_figures_that_were_taken():
    figures = Figures("abuse", rows=json.loads((DOCS / "abuse.json").read_text("utf8"))["rows"])
    page = (DOCS / "abuse.md").read_text("utf8")
    for table in abuse.tables(figures):
        assert f"<!-- {table.name} -->\n{table.markdown()}\n<!-- end -->" in page
    check(figures)


@pytest.mark.slow
def test_every_abuser_gets_its_status():
    check(abuse.run(quick=True))
