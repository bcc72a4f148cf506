"""Whatever happens to frames on their way, a text is what it would have been, and what cannot be is one clear error."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cactus_core.wire import codec
from cactus_core.wire.frames import Outbox
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.service import VerifierServer
from cloud.serving import SERVICE
from cluster.faulty_relay import Fault, FaultyRelay
from cluster.gateway import GatewayServer
from cluster.router import Router
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.link import Endpoint
from edge.tuning.plan import RowsPlan
from tests.integration.test_sharing import opening

NUM_TOKENS = 48
GREEDY = SamplingParams(0.0)


@asynccontextmanager
async def behind(pair, *, probability, seed, gateway_first, faults=tuple(Fault)):
    """A verifier, a gateway, and a relay before the gateway or between the two."""
    async with VerifierServer(str(pair.target), "127.0.0.1:0", memory_gib=0.01) as verifier:
        await verifier.loaded()
        async with (
            FaultyRelay(f"127.0.0.1:{verifier.port}", 0.0 if gateway_first else probability, seed, faults) as inner,
            GatewayServer("127.0.0.1:0", Router([inner.address])) as gateway,
        ):
            await gateway.ready()
            async with FaultyRelay(f"127.0.0.1:{gateway.port}", probability if gateway_first else 0.0, seed, faults) as outer:
                yield verifier, outer if gateway_first else inner, outer.address
        async with asyncio.timeout(10):
            while verifier.engine._residency._sessions:  # noqa: ASYNC110  # nothing tells when a session is let go
                await asyncio.sleep(0.01)
        assert verifier.engine.num_free_pages == verifier.engine._pool.num_pages


async def texts(address, pair, *, acceptance, plan=None, sampling=GREEDY, count):
    async def text(seed):
        drafting = Drafting(rows=plan, patience_s=60.0)
        completion = Completion("w5 w2")
        settings = {"max_tokens": NUM_TOKENS, "sampling": sampling, "seed": seed, "acceptance": acceptance}
        client = Completer(endpoint, pair.tokenizer(), None if seed % 5 == 4 and plan is None else pair.drafter(), drafting)
        async for _ in client.generate(completion, **settings):
            pass
        return [token.id for token in completion.tokens]

    async with Endpoint(address) as endpoint, asyncio.timeout(200):
        return await asyncio.gather(*(text(seed) for seed in range(count)))


@pytest.mark.parametrize("gateway_first", [True, False], ids=["before the gateway", "behind it"])
async def test_coupled_texts_through_faulty_frames_are_those_without(small_pair, gateway_first):
    settings = {"acceptance": Acceptance(COUPLED), "sampling": SamplingParams(0.9), "count": 30}
    async with behind(small_pair, probability=0.03, seed=1, gateway_first=gateway_first) as (_, relay, address):
        marred = await texts(address, small_pair, **settings)
        relay.healed = True
        assert await texts(address, small_pair, **settings) == marred
        assert set(relay.counts) == set(Fault), relay.counts


async def test_greedy_blocks_through_faulty_frames_are_those_without(small_pair):
    settings = {"acceptance": Acceptance(), "plan": RowsPlan(2, 3), "count": 8}
    async with behind(small_pair, probability=0.1, seed=2, gateway_first=True) as (_, relay, address):
        marred = await texts(address, small_pair, **settings)
        relay.healed = True
        assert await texts(address, small_pair, **settings) == marred
        assert len(relay.counts) >= 5


async def test_a_damaged_frame_ends_its_stream_alone_with_one_status(small_pair):
    async with behind(small_pair, probability=0.0, seed=0, gateway_first=True) as (verifier, _, address):
        for where in (f"127.0.0.1:{verifier.port}", address):
            async with grpc.aio.insecure_channel(where) as channel:
                good = Outbox().seal(pb.EdgeFrame(open=codec.pack_request(opening(small_pair))))
                for frames in ([good[:-1]], [good, good], [good[:9] + bytes([good[9] ^ 1]) + good[10:]], [b""]):
                    call = channel.stream_stream(f"/{SERVICE}/Speculate")(iter(frames))
                    with pytest.raises(grpc.aio.AioRpcError) as raised:
                        async for _ in call:
                            pass
                    assert raised.value.code() is grpc.StatusCode.DATA_LOSS
                    assert "open the stream again" in raised.value.details()
        assert len(await texts(address, small_pair, acceptance=Acceptance(COUPLED), count=2)) == 2
