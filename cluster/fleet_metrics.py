"""What Prometheus is told of a cluster on Ray: what its parts tell, in one place, each sample with the name of its part.

Knows Ray's actors by their names; knows nothing of what they measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from ray.exceptions import RayError

from cluster.actors import HEALTH
from cluster.ray_cluster import named

_ANSWER_S = 3.0


class FleetMetrics(Collector):
    """Asks every part of those whose names begin with one of `prefixes`, at most a moment; of one that does not answer it says that."""

    def __init__(self, *prefixes: str) -> None:
        self._prefixes = prefixes

    def collect(self) -> Iterator[Metric]:
        asked = {name: _asked(actor) for name, actor in named().items() if name.startswith(self._prefixes)}
        ready, _ = ray.wait([*asked.values()], num_returns=len(asked), timeout=_ANSWER_S) if asked else ([], [])
        merged: dict[str, Metric] = {}
        up = GaugeMetricFamily("cactus_part_up", "Whether a part of the cluster answers", labels=["part"])
        for part, reference in asked.items():
            told = _told(reference) if reference in ready else None
            up.add_metric([part], told is not None)
            for metric in told or ():
                whole = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                whole.samples += [sample._replace(labels={**sample.labels, "part": part}) for sample in metric.samples]
        yield up
        yield from merged.values()

    def describe(self) -> list[Metric]:
        """Nothing beforehand: to register this asks nobody."""
        return []


def _asked(actor: Any) -> Any:
    return actor.metrics.options(concurrency_group=HEALTH).remote()


def _told(reference: Any) -> list[Metric] | None:
    try:
        told: list[Metric] = ray.get(reference)
    except RayError:
        return None
    return told
