"""What a plan answers, and how it shows it."""

import io
import json
import math

import pytest
from rich.console import Console

from cluster.link_profile import PROFILES, LinkProfile
from cluster.planning import report
from cluster.planning.acceptance_curve import AcceptanceCurve
from cluster.planning.answers import answered, break_even_s
from cluster.planning.configuration import OFF, Setting, Way
from cluster.planning.device_profile import DeviceProfile
from cluster.planning.profile_files import profile
from cluster.planning.simulation import simulated
from cluster.planning.verifier_profile import VerifierProfile

CURVE = AcceptanceCurve("shares", survival={4: [0.8, 0.5, 0.2], 16: [0.9, 0.75, 0.6, 0.45, 0.3, 0.2, 0.1]})
DEVICE = DeviceProfile("device", {4: 0.005, 16: 0.020}, draft_w=20.0, idle_w=0.5)
VERIFIER = VerifierProfile("verifier", {1: 0.02, 200: 0.03}, session_s=0.0002, draft_forward_s={1: 0.004})


@pytest.fixture(scope="module")
def answers():
    return answered(Setting(DEVICE, PROFILES["near"], VERIFIER, CURVE), 4, 0.05)


def test_the_best_by_each_objective_is_the_best_of_all_ways(answers):
    assert answers.best["goodput"].tokens_per_s == max(outcome.tokens_per_s for outcome in answers.outcomes)
    assert answers.best["cost"].verifier_s_per_token == min(outcome.verifier_s_per_token for outcome in answers.outcomes)
    assert answers.best["energy"].joules_per_token == min(outcome.joules_per_token for outcome in answers.outcomes)


def test_objectives_conflict_where_drafting_is_dear_at_the_edge(answers):
    assert answers.conflict
    assert answers.best["energy"].way != answers.best["goodput"].way


def test_as_many_clients_are_carried_as_keep_the_p95(answers):
    for carried in answers.carried:
        assert carried.num_clients == 0 or carried.outcome.time_per_token_s_p95 <= answers.p95_s
    assert answers.carried[0].num_clients > 4


def test_waiting_breaks_even_where_its_cycle_brings_what_steps_without_drafts_would():
    verifier = VerifierProfile("verifier", {1: 0.02})
    setting = Setting(DEVICE, LinkProfile("link"), verifier, AcceptanceCurve("two", reach={16: [[2, 0, 0] * 100]}))
    assert break_even_s(setting, Way("wait", 16)) == pytest.approx(3 * 0.02 - 0.02 - 0.020, abs=0.004)


def test_a_draft_that_never_comes_true_never_breaks_even_and_a_slow_verifier_waits_for_any():
    never = Setting(DEVICE, LinkProfile("link"), VerifierProfile("v", {1: 0.02}), AcceptanceCurve("never", survival={16: [0.0]}))
    assert break_even_s(never, Way("wait", 16)) is None
    slow = Setting(DEVICE, LinkProfile("link"), VerifierProfile("v", {1: 2.0}), CURVE)
    assert break_even_s(slow, Way("wait", 16)) == math.inf


def test_the_report_fits_a_terminal_and_says_every_answer(answers):
    page = io.StringIO()
    report.show(Console(file=page, width=80, highlight=False), answers)
    text = page.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for said in ("best for", "The objectives conflict", "carries at a p95 of 50 ms", "up to a round trip of", "1 + gamma·t_d/t_v"):
        assert said in " ".join(text.split())


def test_figures_have_the_shape_of_every_benchmark(answers, tmp_path):
    report.figures(answers).write(tmp_path / "plan.json")
    rows = json.loads((tmp_path / "plan.json").read_text("utf8"))["rows"]
    assert {"tokens_per_s", "time_per_token_ms_p95", "verifier_s_per_token", "clients_carried", "break_even_round_trip_ms"} <= {
        row["metric"] for row in rows
    }


def test_drafts_spare_a_busy_h100_near_its_edges_and_cost_their_users_time_far_from_it():
    device, h100 = profile(DeviceProfile, "server-core-demo"), profile(VerifierProfile, "h100-qwen3-8b")
    curve = profile(AcceptanceCurve, "demo-t0.7")
    near, far = (
        {way: simulated(Setting(device, PROFILES[link], h100, curve), way, 32, seconds=3.0) for way in (OFF, Way("wait", 16))}
        for link in ("perfect", "far")
    )
    assert near[Way("wait", 16)].verifier_s_per_token < 0.8 * near[OFF].verifier_s_per_token
    assert far[Way("wait", 16)].time_per_token_s_p95 > far[OFF].time_per_token_s_p95


def test_a_plot_is_drawn_and_names_its_ways(answers, tmp_path):
    from cluster.planning.plots import draw

    draw(answers, tmp_path / "plan.svg")
    assert "<svg" in (tmp_path / "plan.svg").read_text("utf8")
