"""A text's spans in OpenTelemetry's words: one of the text, in it one a round, and in that its parts as far as they are known.

Of a block's round the edge knows when it began to draft, when it sent and when the decision came, and of the time between the last
two what the cloud spent queueing and verifying. How the rest falls on the way up and the way down nobody knows without a common
clock: half each, and these parts say that they are `estimated`. Of a stream, whose decisions come without being asked for, the
cloud's part may have begun before the decision before came: its rounds have it as attributes, and no parts.

Knows rounds and spans; knows nothing of exporters. No span says what a text says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, Tracer, TracerProvider, set_span_in_context

from edge.completion import Completion
from edge.rounds import Round
from edge.tracing import RoundEnded, Tracing

_NS = 1_000_000_000


def traced_by(provider: TracerProvider) -> Tracing:
    """Texts whose spans are `provider`'s, within the span that is the caller's when the text begins."""
    tracer = provider.get_tracer("cactus")

    @contextmanager
    def traced(completion: Completion) -> Iterator[RoundEnded]:
        text = tracer.start_span("text", attributes={"cactus.request": completion.request_id})
        is_watched = text.is_recording()

        def ended(done: Round) -> None:
            if is_watched:
                in_lockstep = bool(done.num_drafted) and not completion.acceptance.is_coupled
                _add_round(tracer, text, done, time.time_ns(), in_lockstep=in_lockstep)

        try:
            yield ended
        except Exception as error:
            text.set_status(Status(StatusCode.ERROR, type(error).__name__))  # no message: it may quote what was asked
            raise
        finally:
            if is_watched:
                _sum_up(text, completion)
            text.end()

    return traced


def _sum_up(text: Span, completion: Completion) -> None:
    summary = completion.summary
    text.set_attributes(
        {
            "cactus.rule": completion.acceptance.rule,
            "cactus.promise": str(completion.acceptance.label),
            "cactus.num_tokens": summary.num_tokens,
            "cactus.num_rounds": summary.num_rounds,
            "cactus.num_drafted": summary.num_drafted,
            "cactus.num_accepted": summary.num_accepted,
            "cactus.num_resumes": summary.num_resumes,
            "cactus.divergence_nats": summary.divergence,
            "cactus.ttft_s": summary.ttft_s,
        }
    )


def _add_round(tracer: Tracer, text: Span, done: Round, came_ns: int, *, in_lockstep: bool) -> None:
    """One that ended at `came_ns`. `in_lockstep`: its block was drafted, sent and decided, one after the other."""
    sent_ns = came_ns - _ns(done.wait_s)
    began_ns = sent_ns - _ns(done.draft_s) if in_lockstep else sent_ns
    within = set_span_in_context(text)
    span = tracer.start_span("round", within, start_time=began_ns, attributes=_attributes(done))
    if in_lockstep:
        parts = set_span_in_context(span)
        _add_part(tracer, parts, "draft", began_ns, sent_ns)
        queue_ns, verify_ns = _ns(done.queue_s), _ns(done.verify_s)
        link_ns = came_ns - sent_ns - queue_ns - verify_ns
        if link_ns >= 0:  # else the cloud's clock runs faster than ours, by more than the link takes
            arrived_ns = sent_ns + link_ns // 2
            _add_part(tracer, parts, "up", sent_ns, arrived_ns, is_estimated=True)
            _add_part(tracer, parts, "queue", arrived_ns, arrived_ns + queue_ns, is_estimated=True)
            _add_part(tracer, parts, "verify", arrived_ns + queue_ns, arrived_ns + queue_ns + verify_ns, is_estimated=True)
            _add_part(tracer, parts, "down", arrived_ns + queue_ns + verify_ns, came_ns, is_estimated=True)
    span.end(came_ns)


def _add_part(tracer: Tracer, within: Context, name: str, from_ns: int, until_ns: int, *, is_estimated: bool = False) -> None:
    tracer.start_span(name, within, start_time=from_ns, attributes={"cactus.estimated": is_estimated}).end(until_ns)


def _attributes(done: Round) -> dict[str, str | int | float]:
    ended = {"cactus.finish": str(done.finish)} if done.finish is not None else {}
    return {
        "cactus.num_tokens": len(done.tokens),
        "cactus.num_drafted": done.num_drafted,
        "cactus.num_accepted": done.num_accepted,
        "cactus.divergence_nats": sum(token.divergence for token in done.tokens),
        "cactus.draft_s": done.draft_s,
        "cactus.wait_s": done.wait_s,
        "cactus.queue_s": done.queue_s,
        "cactus.verify_s": done.verify_s,
        **ended,
    }


def _ns(seconds: float) -> int:
    return round(seconds * _NS)
