"""What Prometheus is told of a verifier, read when it asks: spec_decode counters in the shape that vLLM gives them, and what is our own.

Knows names and sums; knows nothing of what requests say.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cloud.service import VerifierService
from cloud.tally import Distribution, RuleTally

_SPEC = "cactus_spec_decode_num"


class VerifierMetrics(Collector):
    """Of one service; nothing but its bytes until its model is loaded."""

    def __init__(self, service: VerifierService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        link = CounterMetricFamily("cactus_link_bytes", "Bytes of frames, from edges (up) and to them (down)", labels=["direction"])
        link.add_metric(["up"], self._service.num_bytes_up)
        link.add_metric(["down"], self._service.num_bytes_down)
        yield link
        engine = self._service.engine
        if engine is None:
            return
        info = GaugeMetricFamily("cactus_verifier_info", "1, of what is served", labels=["model"])
        info.add_metric([engine.served.model], 1)
        yield info
        figures, tally = engine.figures, engine.tally
        yield from _of_rules(dict(tally.rules))
        yield _counter("cactus_read_tokens", "Tokens that the model read: prompts, drafts, text", figures.num_read)
        yield _counter("cactus_emitted_tokens", "Tokens that stand", figures.num_emitted)
        yield _counter("cactus_decisions", "Decisions that were told", figures.num_decided)
        yield _counter("cactus_busy_seconds", "Time spent in steps", figures.busy_s)
        yield _histogram("cactus_step_seconds", "A step: planning, forward, deciding", tally.step_s)
        yield _histogram("cactus_step_tokens", "Tokens that a step read", tally.step_tokens)
        yield _histogram("cactus_queue_seconds", "What work waited for its step", tally.queue_s)
        yield _gauge("cactus_queue_requests", "Requests whose work waits, or is in the step in hand", engine.num_waiting)
        yield _gauge("cactus_longest_wait_seconds", "Of the work that waits now", engine.longest_wait_s)
        yield _gauge("cactus_sessions", "Open now", engine.num_sessions)
        yield _gauge("cactus_kv_pages", "Pages of keys and values", engine.num_pages)
        yield _gauge("cactus_kv_pages_used", "Pages that sessions hold", engine.num_pages - engine.num_free_pages)
        yield _counter("cactus_kv_evictions", "Idle sessions whose pages others got", tally.num_evictions)
        yield _counter("cactus_preemptions", "Sessions that waited and had to start over", tally.num_preemptions)
        yield _counter("cactus_prefix_cache_queries", "Tokens that were looked for among known pages", tally.num_looked_up)
        yield _counter("cactus_prefix_cache_hits", "Tokens of them that were found", tally.num_found)


def _of_rules(rules: dict[str, RuleTally]) -> Iterator[Metric]:
    drafts = CounterMetricFamily(f"{_SPEC}_drafts", "Drafts that were decided on", labels=["rule"])
    drafted = CounterMetricFamily(f"{_SPEC}_draft_tokens", "Tokens of them", labels=["rule"])
    accepted = CounterMetricFamily(f"{_SPEC}_accepted_tokens", "Drafted tokens that stood", labels=["rule"])
    by_place = CounterMetricFamily(
        f"{_SPEC}_accepted_tokens_per_pos", "Drafts of which the token in this position stood, from 0", labels=["rule", "position"]
    )
    divergence = CounterMetricFamily("cactus_divergence_spent_nats", "What texts strayed from the target's law", labels=["rule"])
    for rule, tally in rules.items():
        times = dict(tally.accepted)
        drafts.add_metric([rule], tally.num_drafts)
        drafted.add_metric([rule], tally.num_draft_tokens)
        accepted.add_metric([rule], sum(count * length for length, count in times.items()))
        for position in range(max(times, default=0)):
            by_place.add_metric([rule, str(position)], sum(count for length, count in times.items() if length > position))
        divergence.add_metric([rule], tally.divergence)
    yield from (drafts, drafted, accepted, by_place, divergence)


def _counter(name: str, says: str, value: float) -> Metric:
    return CounterMetricFamily(name, says, value=value)


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)


def _histogram(name: str, says: str, values: Distribution) -> Metric:
    counts = [*accumulate(values.counts)]
    bounds = [*map(str, map(float, values.bounds)), "+Inf"]
    return HistogramMetricFamily(name, says, buckets=[*zip(bounds, counts, strict=True)], sum_value=values.total)
