"""What Prometheus is told of a gateway, read when it asks.

Knows names and sums; knows nothing of what passes.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cluster.gateway import GatewayServer


class GatewayMetrics(Collector):
    """Of one server that is running."""

    def __init__(self, server: GatewayServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        traffic, router, door = self._server.service.traffic, self._server.router, self._server.access.door
        link = CounterMetricFamily("cactus_gateway_link_bytes", "Bytes of frames, from edges (up) and to them (down)", labels=["direction"])
        link.add_metric(["up"], traffic.num_bytes_up)
        link.add_metric(["down"], traffic.num_bytes_down)
        yield link
        yield CounterMetricFamily("cactus_gateway_streams_opened", "Streams that were let in and opened", value=traffic.num_streams)
        yield CounterMetricFamily("cactus_gateway_decisions", "Decisions that were passed on", value=traffic.num_decisions)
        yield CounterMetricFamily("cactus_gateway_failovers", "Times that a text went on at another replica", value=traffic.num_failovers)
        refused = CounterMetricFamily("cactus_gateway_refusals", "Calls that were refused, by status", labels=["code"])
        for code, times in dict(door.num_refused).items():
            refused.add_metric([code], times)
        yield refused
        streams = GaugeMetricFamily("cactus_gateway_streams", "Open now, by replica", labels=["replica"])
        for address in router.addresses:
            streams.add_metric([address], router.num_streams_to(address))
        yield streams
        yield GaugeMetricFamily("cactus_gateway_replicas", "That new texts may go to", value=len(router.addresses))
