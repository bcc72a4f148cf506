"""Lines on what goes wrong with a request carry its id, and neither a token nor a prompt."""

import io
import json
import logging

import httpx
import pytest

from cactus_core.errors import Unauthenticated, Unavailable
from cactus_core.request_log import JsonLines
from cactus_core.sampling import SamplingParams
from cactus_core.session import Request
from cloud.exposition import exposed
from cloud.service import VerifierServer
from cluster.access.security import Security
from cluster.access.tenants import digest_of
from cluster.gateway import GatewayServer
from cluster.metrics import GatewayMetrics
from cluster.router import Router
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.credentials import Credentials
from edge.link import Endpoint
from edge.serving.server import ApiServer
from tests.integration.conftest import system
from tests.integration.cutting_relay import CuttingRelay
from tests.integration.test_failover import Both
from tests.integration.test_metrics import scraped
from tests.integration.test_streams_over_grpc import COUPLED, complete, ids

TOKEN = "y" * 43


class Failing(Endpoint):
    """Tells what is served, and serves it to nobody."""

    def __init__(self, served, error):
        super().__init__("127.0.0.1:9")
        self.served, self.error = served, error

    async def describe(self):
        return self.served

    def open(self, request, request_id=""):
        raise self.error


@pytest.fixture
async def served(small_pair):
    async with system(small_pair.target) as endpoint:
        return await endpoint.describe()


def requests_of(caplog, logger):
    return [record.facts["request"] for record in caplog.records if record.name == logger]


async def test_a_stream_that_is_refused_is_logged_by_the_id_that_its_edge_gave(tmp_path, caplog):
    caplog.set_level(logging.INFO, "cluster")
    tenants, token = tmp_path / "tenants.toml", tmp_path / "token"
    tenants.write_text(f'[tenants.acme]\ntokens_sha256 = ["{digest_of("x" * 43)}"]\n', "utf8")
    token.write_text(TOKEN, "utf8")
    async with (
        GatewayServer("127.0.0.1:0", Router(["127.0.0.1:9"]), Security(tenants=tenants)) as gateway,
        Endpoint(f"127.0.0.1:{gateway.port}", credentials=Credentials(token_file=token)) as endpoint,
    ):
        with pytest.raises(Unauthenticated):
            async with endpoint.open(Request((1, 2), 4, 1, ""), "from-the-edge"):
                pass
    assert requests_of(caplog, "cluster.access.interceptor") == ["from-the-edge"]
    told = [JsonLines().format(record) for record in caplog.records]
    assert '"code": "UNAUTHENTICATED"' in told[0]
    assert TOKEN not in "".join(told)


async def test_a_link_that_is_tried_again_is_logged_by_the_id_of_its_text(small_pair, served, caplog):
    caplog.set_level(logging.INFO, "edge")
    endpoint = Failing(served, Unavailable("nothing is there; start it"))
    completion = Completion("w1 w2 w3")
    with pytest.raises(Unavailable):
        async for _ in Completer(endpoint, small_pair.tokenizer(), None, Drafting(patience_s=0.2)).generate(
            completion, max_tokens=4, sampling=SamplingParams(), seed=1
        ):
            pass
    assert set(requests_of(caplog, "edge.completer")) == {completion.request_id}


async def test_an_answer_that_fails_is_logged_by_its_id(small_pair, served, caplog):
    caplog.set_level(logging.INFO, "edge")
    server = ApiServer(Failing(served, RuntimeError("torn")), "127.0.0.1:0", small_pair.draft, [None], name="small")
    async with server.serving(), httpx.AsyncClient(base_url=server.url) as caller:
        answer = await caller.post("/v1/completions", json={"model": "small", "prompt": "w1 w2 w3", "max_tokens": 4})
    assert answer.status_code == 500
    failed, ended = requests_of(caplog, "edge.serving.answer")
    assert failed == ended
    assert failed.startswith("cmpl-")
    assert "w1" not in "".join(JsonLines().format(record) for record in caplog.records)


async def test_a_text_that_goes_on_elsewhere_is_counted_and_logged_by_its_id_each_time(small_pair):
    heard = io.StringIO()
    handler, logger = logging.StreamHandler(heard), logging.getLogger("cluster.passage")
    handler.setFormatter(JsonLines())  # as it is logged: the id is that of the task that logs
    async with VerifierServer(str(small_pair.target), "127.0.0.1:0", memory_gib=0.1) as verifier:
        await verifier.loaded()
        async with (
            CuttingRelay(f"127.0.0.1:{verifier.port}") as one,
            CuttingRelay(f"127.0.0.1:{verifier.port}") as other,
            GatewayServer("127.0.0.1:0", Router([one.address, other.address])) as gateway,
            Endpoint(f"127.0.0.1:{gateway.port}") as endpoint,
        ):
            await gateway.ready()
            client = Completer(endpoint, small_pair.tokenizer(), None)
            whole = await complete(client, acceptance=COUPLED)
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            try:
                moved = await complete(client, acceptance=COUPLED, relay=Both([one, other]))
            finally:
                logger.removeHandler(handler)
                logger.setLevel(logging.NOTSET)
            with exposed("127.0.0.1:0", GatewayMetrics(gateway)) as port:
                told = await scraped(port)
    lines = [json.loads(line) for line in heard.getvalue().splitlines()]
    lost = [line["request"] for line in lines if "was lost" in line["message"]]
    assert ids(moved) == ids(whole)
    assert set(lost) == {moved.request_id}
    assert told["cactus_gateway_failovers_total",] == len(lost)
