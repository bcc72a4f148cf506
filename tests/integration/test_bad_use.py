"""Bad input ends its own request with one clear status, and nothing else."""

import math

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cactus_core.errors import InvalidInput, LimitExceeded, Mismatch, StaleBase, Unavailable
from cactus_core.sampling import SamplingParams
from cactus_core.session import Limits, Request
from cactus_core.wire import codec
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.service import VerifierServer
from cloud.serving import SERVICE, server_options
from edge import link
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.link import Endpoint
from edge.tokenizer import Tokenizer
from edge.tuning.plan import RowsPlan
from tests.core.drafts import random_block
from tests.integration.conftest import make_model, system
from tests.sealed import RawStream


def request_for(pair, **changes):
    return Request(**{"prompt": (5, 3), "max_tokens": 8, "seed": 1, "fingerprint": pair.tokenizer().fingerprint, **changes})


async def complete(endpoint, pair, **changes):
    settings = {"max_tokens": 6, "sampling": SamplingParams(), "seed": 3, **changes}
    completion = Completion("w5 w2")
    async for _ in Completer(endpoint, pair.tokenizer(), pair.drafter(), Drafting(rows=RowsPlan(2, 3))).generate(completion, **settings):
        pass
    return completion


async def test_another_tokenizer_is_refused_on_both_sides(small_pair, tmp_path):
    make_model(tmp_path, 3, words="other")
    other = Tokenizer.load(tmp_path)
    async with system(small_pair.target) as endpoint:
        with pytest.raises(Mismatch, match="use a draft made for that target"):
            async for _ in Completer(endpoint, other, small_pair.drafter()).generate(
                Completion("w1"), max_tokens=3, sampling=SamplingParams(), seed=1
            ):
                pass
        with pytest.raises(Mismatch, match="is not that of"):
            async with endpoint.open(request_for(small_pair, fingerprint=other.fingerprint)):
                pass


async def test_a_request_beyond_the_models_positions_is_refused(small_pair):
    async with system(small_pair.target) as endpoint:
        with pytest.raises(LimitExceeded, match="256 positions"):
            await complete(endpoint, small_pair, max_tokens=1000)


async def test_bad_blocks_end_their_stream_alone(small_pair):
    async with system(small_pair.target) as endpoint:
        for block, error in (
            (random_block(1, num_rows=1, length=2, vocab_size=30, support_size=30, base=2), InvalidInput),
            (random_block(1, num_rows=1, length=2, vocab_size=8, support_size=4, base=9), StaleBase),
            (random_block(1, num_rows=20, length=2, vocab_size=8, support_size=4, base=2), InvalidInput),
        ):
            with pytest.raises(error):
                async with endpoint.open(request_for(small_pair)) as link:
                    await link.exchange(block, 0)
        assert (await complete(endpoint, small_pair)).tokens


async def raw_call(address, frames):
    async with grpc.aio.insecure_channel(address) as channel:
        call = RawStream(channel, frames)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in call:
                pass
        return raised.value.code(), raised.value.details()


async def test_frames_out_of_order_and_too_large_are_refused(small_pair):
    opening = pb.EdgeFrame(open=codec.pack_request(request_for(small_pair)))
    async with system(small_pair.target) as endpoint:
        status, details = await raw_call(endpoint.address, [pb.EdgeFrame(draft_block=pb.DraftBlock())])
        assert (status, details) == (grpc.StatusCode.INVALID_ARGUMENT, "a stream must begin with Open")
        status, _ = await raw_call(endpoint.address, [opening, opening])
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        large = pb.EdgeFrame(draft_block=pb.DraftBlock(choice_varints=bytes(2 << 20)))
        status, _ = await raw_call(endpoint.address, [opening, large])
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await complete(endpoint, small_pair)).tokens


async def test_an_acceptance_that_does_not_hold_together_is_refused_before_any_model_time(small_pair):
    async with system(small_pair.target) as endpoint:
        for fields, expected, says in (
            ({"rule": "wishful"}, grpc.StatusCode.UNIMPLEMENTED, "no acceptance rule is called 'wishful'"),
            ({"relaxation": "certified", "strength": math.nan}, grpc.StatusCode.INVALID_ARGUMENT, "strength"),
            ({"relaxation": "certified", "strength": 0.1, "budget": -1.0}, grpc.StatusCode.INVALID_ARGUMENT, "budget"),
        ):
            opening = codec.pack_request(request_for(small_pair))
            opening.acceptance.CopyFrom(pb.Acceptance(**fields))
            status, details = await raw_call(endpoint.address, [pb.EdgeFrame(open=opening)])
            assert status is expected
            assert says in details
        assert (await complete(endpoint, small_pair)).tokens


async def test_an_edge_that_goes_away_leaves_nothing_behind(small_pair):
    async with system(small_pair.target) as endpoint:  # which checks the pages at its end
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  # what is raised must be raised inside the open stream
            async with endpoint.open(request_for(small_pair)) as link:
                await link.exchange(random_block(1, num_rows=2, length=2, vocab_size=8, support_size=8, base=2), 0)
                raise ZeroDivisionError
        assert (await complete(endpoint, small_pair)).tokens


async def test_nothing_listening_is_said_in_one_line():
    async with Endpoint("127.0.0.1:1") as endpoint:
        with pytest.raises(Unavailable, match="start a cluster there with"):
            await endpoint.describe()


async def test_health_says_not_serving_until_the_model_is_loaded(small_pair):
    async with VerifierServer(str(small_pair.target), "127.0.0.1:0", memory_gib=0.01) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            query = health_pb2.HealthCheckRequest(service=SERVICE)
            assert (await health.Check(query)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        async with Endpoint(f"127.0.0.1:{server.port}") as endpoint:
            with pytest.raises(Unavailable, match="still loading"):
                await endpoint.describe()
            await server.loaded()
            assert (await endpoint.describe()).vocab_size == 8
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert (await health_pb2_grpc.HealthStub(channel).Check(query)).status == health_pb2.HealthCheckResponse.SERVING


async def test_a_port_in_use_is_said_in_one_line(small_pair):
    async with VerifierServer(str(small_pair.target), "127.0.0.1:0", memory_gib=0.01) as server:
        await server.loaded()
        with pytest.raises(Unavailable, match="--listen"):
            async with VerifierServer(str(small_pair.target), f"127.0.0.1:{server.port}", memory_gib=0.01):
                pass


async def test_many_plain_requests_end_well(small_pair):
    """The end of a stream that the cloud fills alone raced with the edge's Close once."""
    async with system(small_pair.target) as endpoint:
        client = Completer(endpoint, small_pair.tokenizer(), None)
        for seed in range(40):
            completion = Completion("w5")
            async for _ in client.generate(completion, max_tokens=4, sampling=SamplingParams(), seed=seed):
                pass
            assert {token.origin for token in completion.tokens} == {"decoded"}


def test_a_server_bears_how_often_edges_ask_whether_the_link_still_is_one():
    asked_ms = dict(link._CHANNEL)["grpc.keepalive_time_ms"]
    assert dict(server_options(Limits()))["grpc.http2.min_ping_interval_without_data_ms"] < asked_ms
