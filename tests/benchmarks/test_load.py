"""The load's benchmark: its parts do what they say, and each mark is held to the load that it is for."""

import time

import numpy as np
import pytest

from benchmarks import load
from benchmarks.load_parts import clients, gateway, stub_verifier
from benchmarks.servant import servant
from cluster.figures import Figures


def test_a_run_leaves_out_its_first_rounds_and_counts_all():
    run = load._Run.of([[9.0, 0.001, 0.001, 0.001, 0.003], [9.0] * 1])
    assert run.num_rounds == (5, 1)
    assert sorted(run.delays) == [1.0, 1.0, 1.0, 3.0, 9000.0]


def test_each_mark_stands_beside_the_load_that_it_is_for():
    figures = Figures("load")
    for each in load.loads(quick=True):
        for metric in ("added_delay_ms_p50", "added_delay_ms_p99"):
            figures.add(each.case, metric, 1.0, "ms", low=0.5, high=1.5)
    figures.add(load.loads(quick=True)[1].case | {"connections": "shared"}, "rss_kb_per_stream", 50.0, "KB")
    [table] = load.tables(figures)
    assert [(row[1], row[4]) for row in table.rows] == [
        ("added_delay_ms_p50", "2"),
        ("added_delay_ms_p99", ""),
        ("added_delay_ms_p50", ""),
        ("added_delay_ms_p99", "25"),
        ("rss_kb_per_stream", "60"),
    ]
    assert load.tables(Figures("load")) == []


@pytest.mark.slow
def test_clients_get_their_rounds_through_a_gateway_and_straight():
    with servant(stub_verifier) as stub, servant(gateway, stub.greeting) as middle, servant(clients) as edge:
        for address in (stub.greeting, middle.greeting):
            edge.ask("open", address, 6, 3)
            delays = edge.ask("drive", 60.0, time.monotonic() + 0.2, 1.0)
            edge.ask("close")
            assert [len(each) for each in delays] == [10] * 6
            assert min(map(min, delays)) > 0.0
        resident_kb, used_s = middle.ask("use")
        assert resident_kb > 1000.0 or np.isnan(resident_kb)
        assert used_s > 0.0


@pytest.mark.slow
def test_the_quick_benchmark_measures_all_that_has_a_mark():
    figures = load.run(quick=True)
    assert {row["metric"] for row in figures.rows} >= set(load.MARKS)
    assert all(figures.value("rounds_per_stream", load=each.name) for each in load.loads(quick=True))
    assert load.tables(figures)
