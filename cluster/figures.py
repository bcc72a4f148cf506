"""Measured figures in the one shape that every benchmark writes.

    {"bench", "machine", "versions", "rows": [{"case": {...}, "metric", "value", "unit", "low", "high"}]}

`low` and `high` bound the median over repeated runs; a single run has none.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_VERSIONS_OF = ("cactus-serving", "torch", "transformers", "ray", "grpcio", "onnxruntime", "numpy")

Case = dict[str, str | int | float]


@dataclass(slots=True)
class Figures:
    bench: str
    rows: list[dict[str, object]] = field(default_factory=list)

    def add(self, case: Case, metric: str, value: float, unit: str) -> None:
        """One figure of a single run."""
        self.rows.append({"case": case, "metric": metric, "value": value, "unit": unit, "low": None, "high": None})

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
