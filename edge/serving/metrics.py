"""What Prometheus is told of an edge's server.

Knows counts; knows nothing of requests' content.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from edge.completion import Completion

_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)


class Metrics:
    """In a registry of their own, so that several servers in one process stay apart."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "cactus_edge_requests", "Requests by route and HTTP status; 499: the caller went away", ["route", "status"], registry=registry
        )
        self.running = Gauge("cactus_edge_requests_running", "Requests that are being served", registry=registry)
        self._prompt = Counter("cactus_edge_prompt_tokens", "Tokens of prompts", registry=registry)
        self._tokens = Counter("cactus_edge_tokens", "Tokens emitted, by where they came from", ["origin"], registry=registry)
        self._drafted = Counter("cactus_edge_draft_tokens", "Tokens drafted and sent", registry=registry)
        self._rounds = Counter("cactus_edge_rounds", "Decisions that came", registry=registry)
        self._divergence = Counter("cactus_edge_divergence_nats", "Nats that texts strayed from the target's law", registry=registry)
        self._resumes = Counter("cactus_edge_resumes", "Times that a lost link was opened again", registry=registry)
        self._ttft = Histogram("cactus_edge_ttft_seconds", "To a choice's first token", buckets=_TTFT_S, registry=registry)
        self._per_token = Histogram("cactus_edge_time_per_token_seconds", "After the first, by choice", buckets=_TOKEN_S, registry=registry)

    def count(self, completion: Completion, num_prompt: int) -> None:
        """A choice that was written, whole or in part."""
        summary = completion.summary
        self._prompt.inc(num_prompt)
        for token in completion.tokens:
            self._tokens.labels(str(token.origin)).inc()
        self._drafted.inc(summary.num_drafted)
        self._rounds.inc(summary.num_rounds)
        self._divergence.inc(summary.divergence)
        self._resumes.inc(summary.num_resumes)
        if summary.num_rounds:
            self._ttft.observe(summary.ttft_s)
        if summary.num_tokens > 1:
            self._per_token.observe((summary.wall_s - summary.ttft_s) / (summary.num_tokens - 1))

    def text(self) -> bytes:
        return generate_latest(self._registry)
