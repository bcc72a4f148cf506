"""The links' benchmark: what its parts do is what they say, and what it writes finds its place."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from benchmarks import link, link_tables, over_links, tuning
from benchmarks.drafters import demo_drafter
from benchmarks.link_process import link_process
from benchmarks.link_systems import Naive, Question, Sample, ThroughClient
from benchmarks.table import write_into
from benchmarks.verifier_process import verifier_process
from cluster.figures import Figures
from cluster.link_profile import PROFILES
from edge.link import Endpoint
from edge.rounds import Origin, Round, Token

ROOT = Path(__file__).parent.parent.parent
TABLES = ("speed", "systems", "tuning", "bytes")


def a_round(num_tokens):
    return Round((Token(1, Origin.DECODED, -1.0, 0.0),) * num_tokens, 4, 2, num_tokens - 1, 0.0, 0.0, 0.0, 0.5, 0.0, None)


def test_a_sample_counts_from_its_opening_and_a_pace_from_where_it_is_asked_for():
    sample = Sample()
    for at, num_tokens in ((1.0, 2), (2.0, 1), (4.0, 3), (5.0, 4), (9.0, 8)):
        sample.count(a_round(num_tokens), at)
    assert (sample.num_tokens, sample.wall_s, sample.ttft_s, sample.num_rounds, sample.num_drafted) == (18, 9.0, 1.0, 5, 20)
    assert sample.per_token_s == [1.0, *[2 / 3] * 3, *[0.25] * 4, *[0.5] * 8]
    assert sample.tokens_per_s == 2.0
    assert sample.pace_after(3, 0) == 15 / 7  # from when there were three
    assert sample.pace_after(3, 2) == 8 / 4


def test_every_system_goes_first_in_turn():
    names = ["a", "b", "c"]
    assert [over_links._in_turn(names, number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert all(sorted(over_links._in_turn(names, number)) == names for number in range(4))


def test_all_profiles_are_measured_and_each_plan_is_another():
    assert over_links.profiles(quick=False) == tuple(PROFILES)
    plans = tuning.plans(quick=False)
    assert len(set(plans)) == len(plans)


def test_each_table_has_a_place_in_the_page():
    page = (ROOT / "docs/link.md").read_text("utf8")
    for name in TABLES:
        assert page.count(f"<!-- {name} -->") == 1


@pytest.mark.slow
def test_systems_bring_whole_texts_over_a_link_and_their_bytes_are_counted():
    async def measured():
        with verifier_process(1) as verifier, link_process(verifier) as far:
            far.set_profile("near")
            async with Endpoint(far.address) as endpoint:
                await endpoint.describe()
                found = {}
                for name, system in (
                    ("plain", ThroughClient(None)),
                    ("cactus", ThroughClient(demo_drafter())),
                    ("naive", Naive(demo_drafter(), 3)),
                ):
                    far.traffic()
                    found[name] = await system.sample(endpoint, Question(0, 24, 0.7)), far.traffic()
            return found

    found = asyncio.run(measured())
    for name, (sample, traffic) in found.items():
        assert sample.num_tokens == 24, name
        assert sample.wall_s >= sample.ttft_s > 0.005, name  # half a round trip at the least
        assert traffic.up_bytes > 0 < traffic.down_bytes
    assert found["plain"][0].num_rounds == 24
    # Each drafted token of the naive system brings 8,192 bytes.
    naive, traffic = found["naive"]
    assert traffic.up_bytes > naive.num_drafted * 8192 > 100 * found["cactus"][1].up_bytes


@pytest.mark.slow
def test_the_quick_benchmark_fills_every_table(tmp_path):
    figures = link.run(quick=True)
    shown = link_tables.tables(figures)
    assert [table.name for table in shown] == list(TABLES)
    page = tmp_path / "link.md"
    page.write_text((ROOT / "docs/link.md").read_text("utf8"), "utf8")
    write_into(page, shown)
    assert "| stop and wait, dense laws, L=3 |" in page.read_text("utf8")
    assert figures.value("up_bytes_per_drafted_token", family="coupled", nodes=24, padded=False) <= 8.0
    assert all(np.isfinite(row["value"]) for row in figures.rows)


def test_a_table_of_figures_that_are_not_there_is_left_out():
    assert link_tables.tables(Figures("link")) == []
