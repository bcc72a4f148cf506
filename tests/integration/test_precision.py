"""A target in bfloat16 serves both families as one in float32 does."""

import pytest

from cloud.dtype import DType
from cloud.service import VerifierServer
from cloud.target import TargetModel
from edge.link import Endpoint
from tests.integration.test_failover import WAYS, client_of, process_of
from tests.integration.test_streams_over_grpc import NUM_TOKENS, complete, ids


@pytest.mark.parametrize("way", ["a tree for each step", "blocks", "nothing drafted"])
async def test_texts_are_written_in_bfloat16(small_pair, way):
    acceptance, drafting = WAYS[way]
    async with VerifierServer(str(small_pair.target), "127.0.0.1:0", dtype=DType.BFLOAT16, memory_gib=0.01) as server:
        await server.loaded()
        half = TargetModel.load(str(small_pair.target)).num_pages_in(int(0.01 * 2**30))
        assert server.engine.num_pages == pytest.approx(2 * half, abs=1)
        async with Endpoint(f"127.0.0.1:{server.port}") as endpoint:
            text = await complete(client_of(endpoint, small_pair, drafting), acceptance=acceptance)
    assert len(ids(text)) == NUM_TOKENS
    assert text.summary.drafter_error == ""


async def test_the_command_line_takes_the_type(small_pair):
    verb = "verifier", "--model", str(small_pair.target), "--device", "cpu", "--dtype", "bfloat16"
    async with process_of(*verb) as (_, address), Endpoint(address) as endpoint:
        assert len(ids(await complete(client_of(endpoint, small_pair, None)))) == NUM_TOKENS
