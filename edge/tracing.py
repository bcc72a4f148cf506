"""Whether anybody traces texts, and where the traces go.

Knows how OpenTelemetry is found and set up, where it is asked for; knows nothing of spans, nor of what texts say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import entry_points

from cactus_core.errors import InvalidInput, Unsupported
from edge.completion import Completion
from edge.rounds import Round

RoundEnded = Callable[[Round], None]  # told of each round as it ends
Tracing = Callable[[Completion], AbstractContextManager[RoundEnded]]  # around the writing of one text

_EXPORTERS = "opentelemetry_traces_exporter"  # where OpenTelemetry's exporters register


def untraced(_: Completion) -> AbstractContextManager[RoundEnded]:
    return nullcontext(_nobody)


def _nobody(_: Round) -> None:
    pass


@contextmanager
def exported(exporter: str | None) -> Iterator[Tracing]:
    """Spans of every text that is traced meanwhile go to the OpenTelemetry exporter that is registered as `exporter`, in a thread of
    their own; what is left goes out at the end. Exporter and sampling are set up by OpenTelemetry's own variables, `OTEL_*`.

    None: nothing is traced, nor imported. Raises `Unsupported` without OpenTelemetry, `InvalidInput` for an exporter that is not
    installed.
    """
    if exporter is None:
        yield untraced
        return
    try:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from edge.round_spans import traced_by
    except ImportError:
        raise Unsupported("--traces needs OpenTelemetry: pip install 'cactus-serving[otel]'") from None
    known = {found.name: found for found in entry_points(group=_EXPORTERS)}
    if exporter not in known:
        raise InvalidInput(f"--traces knows {', '.join(sorted(known))}, not {exporter!r}; install what brings it, or name another")
    # Named here only where nobody has: what is given to the resource outranks the environment.
    name = os.environ.get("OTEL_SERVICE_NAME", "cactus-edge")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(known[exporter].load()()))
    try:
        yield traced_by(provider)
    finally:
        provider.shutdown()
