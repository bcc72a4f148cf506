"""Pictures of what `cactus bench acceptance` measured: tokens a round against K, and against what a relaxation spends.

Knows figures and how to draw them; measures nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no screen is needed
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.table import rows_of
from cactus_core.rules import DEFAULT_RULE, RULES
from cluster.figures import Figures

_INK, _GREY = "#1b6e3c", "#8a8f98"
_PALETTE = ("#c0392b", "#2471a3", "#b7950b", "#7d3c98", "#117a65", "#d35400", "#5d6d7e", "#a04000", "#1f618d", "#6c3483")
_SHOWN_BY_K = (
    "nearest+block", "quota+block", "traversal", "kseq+block", "ranked+block", "kseq_or_none+token", "recursive",
    "first+block", "first+token",
)  # fmt: skip
_RELAXED = {
    ("nearest+block", "certified", 4): "certified, nearest+block, K=4",
    ("nearest+block", "priced", 4): "priced, nearest+block, K=4",
    ("nearest+block", "interpolate", 4): "interpolate, nearest+block, K=4",
    ("nearest+block", "certified", 1): "certified, block, K=1",
    ("first+token", "certified", 1): "certified, token, K=1",
    ("first+token", "interpolate", 1): "interpolate, token, K=1",
    ("first+token", "cactus", 1): "cactus, as published",
    ("first+token", "cactus_exact", 1): "cactus, exact Bernoulli",
    ("first+token", "typical", 1): "typical acceptance",
    ("first+token", "top_k", 1): "top-k acceptance",
}


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Writes acceptance-by-k and acceptance-by-divergence, as PNG and SVG each, into `folder`, and returns their paths."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "cactus", "figure.dpi": 130})
    drawn = []
    for name, picture in (("acceptance-by-k", _by_k), ("acceptance-by-divergence", _by_divergence)):
        figure = picture(figures)
        for kind in ("png", "svg"):
            path = folder / f"{name}.{kind}"
            figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if kind == "svg" else None)
            drawn.append(path)
        plt.close(figure)
    return drawn


def _by_k(figures: Figures) -> Any:
    places = [
        ("demo", 1.0, "demo pair, temperature 1"),
        ("demo", 0.6, "demo pair, temperature 0.6"),
        ("synthetic", 1.0, "synthetic pair, V = 200"),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), sharey=False)
    for axis, (pair, temperature, title) in zip(axes, places, strict=True):
        for number, rule in enumerate(_SHOWN_BY_K):
            rows = rows_of(figures, "tokens_per_round", pair=pair, temperature=temperature, rule=rule)
            rows = sorted((row for row in rows if not {"relaxation", "texts"} & set(row["case"])), key=lambda row: row["case"]["K"])
            colour, width = (_INK, 2.6) if rule == DEFAULT_RULE else (_PALETTE[number % len(_PALETTE)], 1.2)
            label = f"{rule} ({RULES[rule].known_as})" if RULES[rule].known_as else rule
            _line(axis, [row["case"]["K"] for row in rows], rows, colour=colour, width=width, label=label)
        axis.set_xlim(0.9, 18 if pair == "demo" else 9)
        axis.set_xscale("log", base=2)
        axis.set_xticks(
            [1, 2, 4, 8, 16] if pair == "demo" else [1, 2, 4, 8], labels=["1", "2", "4", "8", "16"][: 5 if pair == "demo" else 4]
        )
        axis.set_xlabel("K, paths a block (L = 6)")
        axis.set_title(title, loc="left")
    axes[0].set_ylabel("tokens a round")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncol=3, frameon=False, bbox_to_anchor=(0.5, 0.0))
    return figure


def _by_divergence(figures: Figures) -> Any:
    figure, axis = plt.subplots(figsize=(8.2, 5.2))
    for number, ((rule, relaxation, k), label) in enumerate(_RELAXED.items()):
        spent = rows_of(figures, "realised_kl_mean", pair="demo", temperature=1.0, rule=rule, relaxation=relaxation, K=k)
        tokens = {
            _key(row): row
            for row in rows_of(figures, "tokens_per_round", pair="demo", temperature=1.0, rule=rule, relaxation=relaxation, K=k)
        }
        pairs = sorted(((row["value"], tokens[_key(row)]) for row in spent if row["value"] is not None), key=lambda pair: pair[0])
        is_ours = rule == DEFAULT_RULE and relaxation == "certified" and k == 4
        style = "--" if relaxation in ("cactus", "cactus_exact", "typical", "top_k") else "-"
        colour, width = (_INK, 2.6) if is_ours else (_PALETTE[number % len(_PALETTE)], 1.2)
        _line(axis, [x for x, _ in pairs], [row for _, row in pairs], colour=colour, width=width, label=label, style=style)
    for k in (1, 4):
        lossless = figures.value("tokens_per_round", pair="demo", temperature=1.0, rule=DEFAULT_RULE, label="exact", K=k)
        if lossless is not None:
            axis.axhline(lossless, color=_GREY, lw=0.8, ls=":")
            axis.annotate(f"exact, K={k}", (1.0, lossless), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=_GREY)
    axis.set_xlim(left=1e-3)
    axis.set_xscale("log")
    axis.set_xlabel("realised KL(emitted law || target), nats a token")
    axis.set_ylabel("tokens a round")
    axis.set_title("Demo pair, temperature 1, L = 6: what divergence buys (dashed: published, token by token)", loc="left")
    axis.legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def _line(axis: Axes, x: list[float], rows: list[dict[str, Any]], *, colour: str, width: float, label: str, style: str = "-") -> None:
    axis.plot(x, [row["value"] for row in rows], style, color=colour, lw=width, marker="o", ms=3, label=label)
    axis.fill_between(x, [row["low"] for row in rows], [row["high"] for row in rows], color=colour, alpha=0.10, lw=0)


def _key(row: dict[str, Any]) -> float:
    return float(row["case"]["strength"])
