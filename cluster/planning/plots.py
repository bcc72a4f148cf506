"""A plan in pictures: tokens a second by round trip, time a token by clients, and what each way costs.

Knows answers and how to simulate what lies between them. Needs matplotlib.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no screen is needed
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from cluster.planning.answers import Answers
from cluster.planning.configuration import OFF, Way
from cluster.planning.simulation import simulated

_COLOUR = {"off": "#8a8f98", "wait": "#2471a3", "stream": "#1b6e3c"}
_ROUND_TRIPS_MS = (0, 5, 10, 20, 30, 40, 60, 80, 100, 140)
_CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128)
_SECONDS, _CLIENT_SECONDS = 2.5, 160.0


def draw(answers: Answers, path: Path) -> None:
    """Writes the picture; its kind is told by the ending of `path`."""
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "cactus"}):
        figure, (by_trip, by_clients, by_cost) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
        ways = [OFF, *answers.break_even_s]
        _by_round_trip(by_trip, answers, ways)
        _by_clients(by_clients, answers, ways)
        _by_cost(by_cost, answers)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def _by_round_trip(axis: Axes, answers: Answers, ways: list[Way]) -> None:
    setting = answers.setting
    for way in ways:
        paces = []
        for ms in _ROUND_TRIPS_MS:
            link = replace(setting.link, round_trip_s=ms / 1e3, jitter_s=0.0)
            paces.append(simulated(replace(setting, link=link), way, 1).tokens_per_s)
        axis.plot(_ROUND_TRIPS_MS, paces, color=_COLOUR[way.mode], marker="o", ms=3, label=str(way))
    axis.set(xlabel="round trip, ms", ylabel="tokens a second", ylim=(0, None))
    axis.set_title("one client", loc="left")
    axis.legend(frameon=False)


def _by_clients(axis: Axes, answers: Answers, ways: list[Way]) -> None:
    for way in ways:
        outcomes = [simulated(answers.setting, way, count, seconds=max(_SECONDS, min(20.0, _CLIENT_SECONDS / count))) for count in _CLIENTS]
        axis.plot(
            _CLIENTS, [each.time_per_token_s_p95 * 1e3 for each in outcomes], color=_COLOUR[way.mode], marker="o", ms=3, label=str(way)
        )
    axis.axhline(answers.p95_s * 1e3, color="#c0392b", lw=0.8, ls=":")
    axis.set_xscale("log", base=2)
    axis.set_xticks(_CLIENTS, labels=map(str, _CLIENTS))
    axis.set(xlabel="clients", ylabel="time a token, p95, ms", ylim=(0, None))
    axis.set_title(answers.setting.link.name, loc="left")


def _by_cost(axis: Axes, answers: Answers) -> None:
    for outcome in answers.outcomes:
        best_for = [objective for objective, best in answers.best.items() if best.way == outcome.way]
        place = (outcome.verifier_s_per_token * 1e3, outcome.joules_per_token * 1e3)
        axis.scatter(
            *place, s=max(outcome.tokens_per_s / answers.best["goodput"].tokens_per_s * 90, 4), color=_COLOUR[outcome.way.mode], alpha=0.7
        )
        if best_for:
            axis.annotate(f"{outcome.way}: {', '.join(best_for)}", place, xytext=(6, 6), textcoords="offset points")
    axis.set(xlabel="verifier, ms a token", ylabel="edge, mJ a token")
    axis.set_title(f"{answers.num_clients} clients; larger: more tokens a second", loc="left")
    axis.margins(0.25)
