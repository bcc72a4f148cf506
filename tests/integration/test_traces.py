"""The spans of real texts, over real links: what they say is what the rounds say, and nothing of what the texts say."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from cactus_core.acceptance import Acceptance
from cactus_core.errors import InvalidInput, Unavailable, Unsupported
from cactus_core.sampling import SamplingParams
from cactus_core.session import Served
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.link import Endpoint
from edge.round_spans import traced_by
from edge.tracing import exported, untraced
from edge.tuning.plan import RowsPlan, TreePlan
from tests.integration.conftest import system

NUM_TOKENS = 16
PARTS = ["draft", "up", "queue", "verify", "down"]


@pytest.fixture
def spans():
    """A provider and what it was given, in the order in which spans ended."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter.get_finished_spans
    provider.shutdown()


def drafting_client(endpoint, pair, tracing):
    return Completer(endpoint, pair.tokenizer(), pair.drafter(), Drafting(rows=RowsPlan(2, 3), tree=TreePlan(6, 3, 0.0)), tracing)


async def write(client, acceptance=None, max_tokens=NUM_TOKENS):
    completion = Completion("w1 w2 w3")
    sampling = SamplingParams(logit_bias=((0, -100.0),))  # no text ends early
    async for _ in client.generate(completion, max_tokens=max_tokens, sampling=sampling, seed=1, acceptance=acceptance or Acceptance()):
        pass
    return completion


def within(ended, parent):
    return [span for span in ended if span.parent is not None and span.parent.span_id == parent.context.span_id]


async def test_a_span_a_round_lies_in_its_texts_span_and_its_parts_fill_it(small_pair, spans):
    provider, finished = spans
    async with system(small_pair.target) as endpoint:
        done = await write(drafting_client(endpoint, small_pair, traced_by(provider)))
    ended = finished()
    text = next(span for span in ended if span.name == "text")
    rounds = within(ended, text)
    assert text.attributes["cactus.request"] == done.request_id
    assert text.attributes["cactus.num_tokens"] == NUM_TOKENS
    assert [span.attributes["cactus.num_tokens"] for span in rounds] == [len(each.tokens) for each in done.rounds]
    assert [span.attributes["cactus.num_accepted"] for span in rounds] == [each.num_accepted for each in done.rounds]
    assert rounds[-1].attributes["cactus.finish"] == "length"
    drafted = [(span, each) for span, each in zip(rounds, done.rounds, strict=True) if each.num_drafted]
    assert drafted
    for span, each in drafted:
        parts = within(ended, span)
        assert [part.name for part in parts] == PARTS
        assert [part.attributes["cactus.estimated"] for part in parts] == [False, True, True, True, True]
        bounds = [span.start_time, *(part.end_time for part in parts)]
        assert [part.start_time for part in parts] == bounds[:-1]
        assert bounds[-1] == span.end_time
        took = {part.name: (part.end_time - part.start_time) / 1e9 for part in parts}
        assert took["draft"] == pytest.approx(each.draft_s, abs=1e-8)
        assert took["verify"] == pytest.approx(each.verify_s, abs=1e-8)
        assert sum(took.values()) == pytest.approx(each.draft_s + each.wait_s, abs=1e-8)
        assert took["up"] == pytest.approx(took["down"], abs=1e-8)
    assert text.start_time <= rounds[0].start_time
    assert rounds[-1].end_time <= text.end_time
    assert "w1" not in "".join(span.to_json() for span in ended)


async def test_of_a_streams_rounds_no_parts_are_made_up(small_pair, spans):
    provider, finished = spans
    async with system(small_pair.target) as endpoint:
        done = await write(drafting_client(endpoint, small_pair, traced_by(provider)), Acceptance("coupled"))
    ended = finished()
    assert {span.name for span in ended} == {"text", "round"}
    verify = [span.attributes["cactus.verify_s"] for span in ended if span.name == "round"]
    assert verify == [each.verify_s for each in done.rounds]


async def test_spans_lie_in_the_span_of_who_asks(small_pair, spans):
    provider, finished = spans
    async with system(small_pair.target) as endpoint:
        client = drafting_client(endpoint, small_pair, traced_by(provider))
        with provider.get_tracer("caller").start_as_current_span("answering") as asked:
            await write(client)
    ended = finished()
    assert [span.name for span in within(ended, asked)] == ["text"]
    assert {span.context.trace_id for span in ended} == {asked.context.trace_id}


async def test_a_text_that_fails_has_a_span_that_says_so_and_quotes_nothing(small_pair, spans):
    provider, finished = spans
    async with system(small_pair.target) as endpoint:
        served = await endpoint.describe()
    client = Completer(Unreachable(served), small_pair.tokenizer(), None, Drafting(patience_s=0.0), traced_by(provider))
    with pytest.raises(Unavailable):
        await write(client)
    (text,) = finished()
    assert text.status.status_code is StatusCode.ERROR
    assert text.status.description == "Unavailable"
    assert not text.events


class Unreachable(Endpoint):
    """Tells what it serves, and serves it to nobody."""

    def __init__(self, served: Served):
        super().__init__("127.0.0.1:9")
        self.served = served

    async def describe(self):
        return self.served

    def open(self, request, request_id=""):
        raise Unavailable("w1 w2 w3 cannot be had; ask elsewhere")


async def test_a_text_that_nobody_wants_any_more_has_a_span_that_ended_well(small_pair, spans):
    provider, finished = spans
    async with system(small_pair.target) as endpoint:
        client = drafting_client(endpoint, small_pair, traced_by(provider))
        completion = Completion("w1")
        pieces = client.generate(completion, max_tokens=100, sampling=SamplingParams(logit_bias=((0, -100.0),)), seed=1)
        await anext(pieces)
        await pieces.aclose()
    (text,) = [span for span in finished() if span.name == "text"]
    assert text.status.status_code is StatusCode.UNSET
    assert text.attributes["cactus.num_rounds"] == 1


async def test_the_exporter_that_is_named_has_had_everything_when_tracing_ends(small_pair, monkeypatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr("edge.tracing.entry_points", lambda group: [Registered("mine", exporter)])
    monkeypatch.setenv("OTEL_SERVICE_NAME", "near-the-user")
    async with system(small_pair.target) as endpoint:
        with exported("mine") as tracing:
            done = await write(drafting_client(endpoint, small_pair, tracing))
    told = exporter.get_finished_spans()
    assert sum(span.name == "round" for span in told) == len(done.rounds)
    assert {span.resource.attributes["service.name"] for span in told} == {"near-the-user"}


class Registered(NamedTuple):
    """An exporter among those that are installed."""

    name: str
    exporter: InMemorySpanExporter

    def load(self):
        return lambda: self.exporter


def test_without_an_exporter_nothing_is_traced():
    with exported(None) as tracing:
        assert tracing is untraced


def test_an_exporter_that_is_not_installed_is_named_with_those_that_are():
    with pytest.raises(InvalidInput, match=r"console.*'nowhere'"), exported("nowhere"):
        pass


def test_without_opentelemetry_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(Unsupported, match=r"cactus-serving\[otel\]"), exported("console"):
        pass


def test_opentelemetry_is_imported_by_nothing_that_runs_without_it():
    root = Path(__file__).parents[2]
    importers = {
        str(path.relative_to(root))
        for package in ("cactus_core", "edge", "cloud", "cluster")
        for path in (root / package).rglob("*.py")
        if "opentelemetry" in path.read_text("utf8") and "_pb2" not in path.name
    }
    assert importers == {"edge/tracing.py", "edge/round_spans.py"}
