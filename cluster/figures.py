"""Measured figures in the one shape that every benchmark writes.

    {"bench", "machine", "versions", "rows": [{"case": {...}, "metric", "value", "unit", "low", "high"}]}

`low` and `high` bound the value: a 95% interval of a mean, or the least and the upper quartile of repeated timings; a
single figure has none. A value that is infinite is null.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_VERSIONS_OF = ("cactus-serving", "torch", "transformers", "ray", "grpcio", "onnxruntime", "numpy")

Case = dict[str, str | int | float]


@dataclass(slots=True)
class Figures:
    bench: str
    accelerator: str = ""  # what the figures were taken on, beside the processor
    rows: list[dict[str, object]] = field(default_factory=list)

    def add(self, case: Case, metric: str, value: float, unit: str, *, low: float | None = None, high: float | None = None) -> None:
        """One figure, with its interval where it has one."""
        finite = [number if number is not None and math.isfinite(number) else None for number in (value, low, high)]
        self.rows.append({"case": case, "metric": metric, **dict(zip(("value", "low", "high"), finite, strict=True)), "unit": unit})

    def add_mean(self, case: Case, metric: str, values: Sequence[float] | NDArray[np.floating], unit: str) -> None:
        """The mean of independent `values`, with its 95% interval."""
        sample = np.asarray(values, dtype=np.float64)
        mean, error = float(sample.mean()), float(1.96 * sample.std() / np.sqrt(len(sample)))
        self.add(case, metric, mean, unit, low=mean - error, high=mean + error)

    def value(self, metric: str, **case: str | float) -> float | None:
        """The figure of the first case that has all of `case`, or None."""
        for row in self.rows:
            if row["metric"] == metric and case.items() <= row["case"].items():  # type: ignore[attr-defined]
                return row["value"]  # type: ignore[return-value]
        return None

    def write(self, path: Path) -> None:
        machine = {
            "processor": platform.machine(),
            "system": platform.system(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        if self.accelerator:
            machine["accelerator"] = self.accelerator
        record = {"bench": self.bench, "machine": machine, "versions": _versions(), "rows": self.rows}
        path.write_text(json.dumps(record, indent=1) + "\n", "utf8")


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
