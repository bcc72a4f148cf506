"""What Prometheus and the log are told of real requests through a real gateway, and that the dashboard asks for nothing else."""

import asyncio
import io
import json
import logging
import re
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from cactus_core.acceptance import Acceptance
from cactus_core.errors import InvalidInput, Unauthenticated, Unavailable
from cactus_core.request_log import JsonLines, LogFormat, TextLines, facts, log_requests, request_id_in
from cactus_core.sampling import SamplingParams
from cloud.exposition import exposed
from cloud.metrics import VerifierMetrics
from cloud.service import VerifierServer, VerifierService
from cluster.access.security import Security
from cluster.access.tenants import digest_of
from cluster.gateway import GatewayServer
from cluster.metrics import GatewayMetrics
from cluster.router import Router
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.link import Endpoint
from edge.serving.metrics import Metrics as EdgeMetrics
from edge.tuning.plan import RowsPlan

OBSERVABILITY = Path(__file__).parents[2] / "observability"
NUM_TOKENS = 24
EXACT = Acceptance()


@asynccontextmanager
async def observed(pair):
    """A gateway before a verifier: the edge's end of the wire to it, and what is scraped of each."""
    async with VerifierServer(str(pair.target), "127.0.0.1:0", memory_gib=0.1) as verifier:
        await verifier.loaded()
        async with GatewayServer("127.0.0.1:0", Router([f"127.0.0.1:{verifier.port}"])) as gateway:
            await gateway.ready()
            with (
                exposed("127.0.0.1:0", VerifierMetrics(verifier.service)) as of_verifier,
                exposed("127.0.0.1:0", GatewayMetrics(gateway)) as of_gateway,
            ):
                async with Endpoint(f"127.0.0.1:{gateway.port}") as endpoint:
                    yield endpoint, of_verifier, of_gateway


async def scraped(port):
    """Samples by name and labels."""

    def read():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    families = text_string_to_metric_families(await asyncio.to_thread(read))
    return {(s.name, *(value for _, value in sorted(s.labels.items()))): s.value for family in families for s in family.samples}


async def drafted(endpoint, pair, acceptance=EXACT):
    client = Completer(endpoint, pair.tokenizer(), pair.drafter(), Drafting(rows=RowsPlan(2, 3)))
    completion = Completion("w1 w2 w3")
    sampling = SamplingParams(logit_bias=((0, -100.0),))  # no text ends early
    async for _ in client.generate(completion, max_tokens=NUM_TOKENS, sampling=sampling, seed=1, acceptance=acceptance):
        pass
    return completion


async def test_what_is_scraped_is_what_happened(small_pair):
    async with observed(small_pair) as (endpoint, of_verifier, of_gateway):
        rule = EXACT.rule
        before = await scraped(of_verifier)
        assert before["cactus_emitted_tokens_total",] == 0
        assert before["cactus_verifier_info", "target"] == 1
        exact = await drafted(endpoint, small_pair)
        relaxed = await drafted(endpoint, small_pair, Acceptance(relaxation="certified", strength=0.2))
        done = [*exact.rounds, *relaxed.rounds]
        at_verifier, at_gateway = await scraped(of_verifier), await scraped(of_gateway)

        assert at_verifier["cactus_emitted_tokens_total",] == 2 * NUM_TOKENS
        assert at_verifier["cactus_decisions_total",] == at_gateway["cactus_gateway_decisions_total",] == len(done)
        blocks = [each for each in done if each.num_drafted]
        assert at_verifier["cactus_spec_decode_num_drafts_total", rule] == len(blocks) > 0
        assert at_verifier["cactus_spec_decode_num_accepted_tokens_total", rule] == sum(each.num_accepted for each in blocks) > 0
        by_place = {key[1]: value for key, value in at_verifier.items() if key[0] == "cactus_spec_decode_num_accepted_tokens_per_pos_total"}
        assert by_place == {
            str(place): sum(each.num_accepted > place for each in blocks) for place in range(max(each.num_accepted for each in blocks))
        }
        spent = relaxed.summary.divergence
        assert at_verifier["cactus_divergence_spent_nats_total", rule] == pytest.approx(spent, rel=1e-6, abs=1e-9)
        assert spent > 0
        assert at_verifier["cactus_step_seconds_count",] == at_verifier["cactus_step_seconds_bucket", "+Inf"] >= len(done)
        assert at_verifier["cactus_step_tokens_sum",] == at_verifier["cactus_read_tokens_total",]
        assert at_verifier["cactus_queue_seconds_count",] == len(done)
        assert at_verifier["cactus_prefix_cache_queries_total",] == 2 * 3
        for direction in ("up", "down"):  # frames are sealed anew between the two, which changes no size
            through = at_gateway["cactus_gateway_link_bytes_total", direction]
            assert at_verifier["cactus_link_bytes_total", direction] >= through > 0
        assert at_gateway["cactus_gateway_streams_opened_total",] == 2
        assert at_gateway["cactus_gateway_replicas",] == 1


async def test_calls_that_are_refused_are_counted_by_their_status(small_pair, tmp_path):
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(f'[tenants.acme]\ntokens_sha256 = ["{digest_of("x" * 43)}"]\n', "utf8")
    security = Security(tenants=tenants)
    async with GatewayServer("127.0.0.1:0", Router(["127.0.0.1:9"]), security) as gateway:
        async with Endpoint(f"127.0.0.1:{gateway.port}") as endpoint:
            with pytest.raises(Unauthenticated):
                await drafted(endpoint, small_pair)
        with exposed("127.0.0.1:0", GatewayMetrics(gateway)) as port:
            at_gateway = await scraped(port)
    assert at_gateway["cactus_gateway_refusals_total", "UNAUTHENTICATED"] == 1
    assert at_gateway["cactus_gateway_failovers_total",] == 0


async def test_edge_gateway_and_verifier_log_a_request_by_one_id(small_pair):
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(name) for name in ("cloud", "cluster")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        async with observed(small_pair) as (endpoint, _, _):
            completion = await drafted(endpoint, small_pair)
            async with asyncio.timeout(10):
                while heard.getvalue().count(completion.request_id) < 2:  # noqa: ASYNC110  # a stream ends at the edge first
                    await asyncio.sleep(0.01)
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
    lines = [json.loads(line) for line in heard.getvalue().splitlines()]
    told = {line["part"]: line for line in lines if line.get("request") == completion.request_id}
    assert told["cloud.service"]["tokens"] == NUM_TOKENS
    assert told["cloud.service"]["message"] == "text complete"
    assert told["cluster.gateway"]["code"] == "OK"
    assert "w1" not in heard.getvalue()


def test_a_line_of_either_format_tells_the_request_and_its_facts():
    record = logging.makeLogRecord({"name": "edge", "levelname": "INFO", "msg": "done", "created": 0.0, "msecs": 7.0})
    record.__dict__.update(facts(request="abc", tokens=3, left=None))
    expected = {"time": "1970-01-01T00:00:00.007Z", "level": "info", "part": "edge", "message": "done"}
    assert json.loads(JsonLines().format(record)) == expected | {"request": "abc", "tokens": 3, "left": None}
    assert TextLines().format(record) == "1970-01-01T00:00:00.007Z info edge [abc] done tokens=3"


def test_lines_are_written_where_they_are_asked_for(capsys):
    loggers = [logging.getLogger(name) for name in ("cactus_core", "edge", "cloud", "cluster")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    try:
        log_requests(None)
        logging.getLogger("edge.link").info("unheard")
        log_requests(LogFormat.JSON)
        logging.getLogger("edge.link").info("heard")
    finally:
        for logger, (handlers, propagates, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagates
            logger.setLevel(level)
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["heard"]


@pytest.mark.parametrize("said", ["", "a b", "x" * 65, 'a"', "ä", "a\nb"])
def test_an_id_that_is_none_is_replaced(said):
    assert request_id_in([("cactus-request", said)]) != said
    assert request_id_in([("cactus-request", "cmpl-12:3")]) == "cmpl-12:3"
    assert request_id_in(None) != request_id_in(None)


def test_metrics_need_an_address_that_can_be_had():
    metrics = VerifierMetrics(VerifierService())
    with exposed("127.0.0.1:0", metrics) as port, pytest.raises(Unavailable, match="--metrics"), exposed(f"127.0.0.1:{port}", metrics):
        pass
    for wrong in ("9000", "host:", "host:x", ":99999"):
        with pytest.raises(InvalidInput, match="--metrics"), exposed(wrong, metrics):
            pass
    with exposed(None, metrics) as port:
        assert port == 0


async def test_the_dashboard_asks_for_what_is_told(small_pair):
    dashboard = json.loads((OBSERVABILITY / "grafana/dashboards/cactus.json").read_text("utf8"))
    asked = {name for panel in dashboard["panels"] for t in panel.get("targets", ()) for name in re.findall(r"cactus_\w+", t["expr"])}
    async with observed(small_pair) as (endpoint, of_verifier, of_gateway):
        await drafted(endpoint, small_pair)
        told = {key[0] for port in (of_verifier, of_gateway) for key in await scraped(port)}
    registry = CollectorRegistry()
    registry.register(VerifierMetrics(VerifierService()))
    of_edge = {family.name for family in text_string_to_metric_families(EdgeMetrics().text().decode())}
    seldom = {"cactus_gateway_refusals_total", "cactus_part_up"}  # told of where there are any; of a cluster on Ray
    stems = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked - told - seldom}
    assert stems <= of_edge
    assert len(asked) > 30
    assert {panel["title"] for panel in dashboard["panels"] if panel["type"] != "row" and not panel["description"]} == set()


def test_prometheus_and_grafana_find_each_other():
    provisioned = yaml.safe_load((OBSERVABILITY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf8"))["datasources"]
    dashboard = json.loads((OBSERVABILITY / "grafana/dashboards/cactus.json").read_text("utf8"))
    sources = {target["datasource"]["uid"] for panel in dashboard["panels"] for target in panel.get("targets", ())}
    assert sources == {source["uid"] for source in provisioned}
    assert yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text("utf8"))["scrape_configs"]
