"""What a caller who takes too much, or does nothing, meets at a real gateway; others are served beside."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import numpy as np
import pytest

from cactus_core.errors import InvalidInput, LimitExceeded, Unauthenticated, Unavailable
from cactus_core.wire import codec
from cactus_core.wire.v1 import speculation_pb2 as pb
from cluster.access import callers, interceptor
from cluster.access.admission import Admission
from cluster.access.frames import num_asked, without_drafts
from cluster.access.quotas import Quota
from cluster.access.security import Security
from tests.cluster.access.stub_verifier import asking, chain, endpoint_of, gateway_before, served, with_token, write_all
from tests.cluster.access.test_tenants import tenants_file
from tests.sealed import RawStream


@asynccontextmanager
async def two_tenants(stub, folder, quotas="", admission=""):
    """A gateway that knows `acme`, of these quotas, and `other`, of none: it, and the endpoint of each."""
    file = tenants_file(folder, quotas, acme=["acme's"])
    file.write_text(file.read_text() + "\n" + tenants_file(folder, other=["other's"]).read_text() + f"\n[admission]\n{admission}")
    async with (
        gateway_before(stub, Security(tenants=file)) as gateway,
        endpoint_of(gateway, with_token(folder, "acme's")) as acme,
        endpoint_of(gateway, with_token(folder, "other's")) as other,
    ):
        yield gateway, acme, other


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


async def read_to_the_end(call):
    while isinstance(await call.read(), pb.CloudFrame):
        pass


async def test_a_tenant_has_as_many_streams_as_its_quota(stub, tmp_path):
    async with two_tenants(stub, tmp_path, "num_streams = 2") as (_, acme, other), AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(acme.open(asking()))
        with pytest.raises(LimitExceeded, match="acme has 2 streams open") as refusal:
            await served(acme)
        assert refusal.value.retry_after_s == 1.0
        assert await served(other) == [7] * 4
        await stack.aclose()
        assert await served(acme) == [7] * 4


async def test_a_flood_of_opens_is_refused_and_reaches_no_verifier(stub, tmp_path):
    async with two_tenants(stub, tmp_path, "opens_per_s = 0.001\nopens_burst = 5") as (_, acme, other):
        beside = asyncio.create_task(served(other, asking(50)))
        outcomes = await asyncio.gather(*(served(acme) for _ in range(300)), return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, LimitExceeded)]
        assert len(refused) == 295
        assert all(refusal.retry_after_s > 0 for refusal in refused)
        assert await beside == [7] * 50
    assert stub.tenants.count("acme") == 5


async def test_a_flood_of_unknown_callers_is_charged_to_their_host(stub, tmp_path, monkeypatch):
    for module in (callers, interceptor):
        monkeypatch.setattr(module, "OF_A_HOST", Quota(opens_per_s=0.001, opens_burst=20))
    async with two_tenants(stub, tmp_path, admission="opens_per_s = 0.001\nopens_burst = 1") as (gateway, _, other):
        async with endpoint_of(gateway) as unknown:
            outcomes = await asyncio.gather(*(served(unknown) for _ in range(100)), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [LimitExceeded.__name__] * 80 + [Unauthenticated.__name__] * 20
        assert await served(other) == [7] * 4  # the one open that the gateway as a whole takes


async def test_a_tenant_over_its_positions_is_ended_with_what_it_paid_for(stub, tmp_path):
    async with two_tenants(stub, tmp_path, "positions_per_s = 0.1\npositions_burst = 20") as (_, acme, other):
        tokens: list[int] = []
        with pytest.raises((LimitExceeded, Unavailable)):  # the latter where the edge wrote as the stream ended: gRPC then loses its status
            async with acme.open(asking(1000)) as link:
                await write_all(link, asking(1000), tokens)
        assert 1 < len(tokens) <= 40
        with pytest.raises(LimitExceeded, match=r"acme is over its 0\.1 positions a second; try again in") as refusal:
            await served(acme)
        assert 200 < refusal.value.retry_after_s < 300
        assert await served(other, asking(100)) == [7] * 100
    assert stub.tenants == ["acme", "other"]


async def test_plain_decoding_is_held_to_the_quota_too(stub, tmp_path):
    async with two_tenants(stub, tmp_path, "positions_per_s = 0.1\npositions_burst = 20") as (_, acme, other):
        tokens: list[int] = []
        with pytest.raises(LimitExceeded, match="positions a second"):
            async with acme.open(asking(1000, is_coupled=False)) as link:
                await write_all(link, asking(1000, is_coupled=False), tokens)
        assert 1 < len(tokens) <= 40
        assert await served(other, asking(100, is_coupled=False)) == [7] * 100


async def test_positions_are_held_by_open_streams_and_come_back_with_their_end(stub, tmp_path):
    async with two_tenants(stub, tmp_path, "num_positions = 100") as (_, acme, other):
        with pytest.raises(LimitExceeded, match="this prompt alone has 101") as never:
            await served(acme, asking(4, 101))
        assert never.value.retry_after_s is None
        async with acme.open(asking(4, 60)):
            with pytest.raises(LimitExceeded, match="leaves no room for 60 more"):
                await served(acme, asking(4, 60))
            assert await served(other, asking(4, 101)) == [7] * 4
        assert await served(acme, asking(4, 60)) == [7] * 4
        tokens: list[int] = []
        alone = asking(80, 60, is_coupled=False)
        with pytest.raises(LimitExceeded, match="holds more than 100 positions"):
            async with acme.open(alone) as link:
                await write_all(link, alone, tokens)
        assert len(tokens) == 41


async def test_a_prompt_of_too_many_bytes_is_refused(stub):
    async with gateway_before(stub, Security(admission=Admission(max_prompt_bytes=1000))) as gateway, endpoint_of(gateway) as endpoint:
        with pytest.raises(LimitExceeded, match="may take 1000 bytes") as refusal:
            await served(endpoint, asking(4, 1001))
        assert refusal.value.retry_after_s is None
        assert await served(endpoint, asking(4, 1000)) == [7] * 4
    assert len(stub.tenants) == 1


async def test_the_gateway_as_a_whole_has_a_cap(stub):
    async with gateway_before(stub, Security(admission=Admission(num_streams=1))) as gateway, endpoint_of(gateway) as endpoint:
        async with endpoint.open(asking()) as link:
            with pytest.raises(LimitExceeded, match="the gateway has 1 streams open"):
                await served(endpoint)
            tokens: list[int] = []
            await write_all(link, asking(), tokens)
        assert await served(endpoint) == [7] * 4


async def test_an_idle_stream_is_ended_and_one_that_moves_is_not(stub):
    security = Security(admission=Admission(idle_s=1.0))
    async with gateway_before(stub, security) as gateway, endpoint_of(gateway) as endpoint:

        async def idle():
            async with endpoint.open(asking()) as link:
                await link.next_decision()

        async with endpoint.open(asking(1000)) as moving:
            ending = asyncio.create_task(idle())
            number = 0
            while not ending.done():
                number += 1
                await moving.send_hint(chain(number, 2 + number - 1, 1))
                await moving.next_decision()
                await asyncio.sleep(0.01)
            with pytest.raises(LimitExceeded, match="no frame came for 1 s"):
                await ending


async def test_a_stream_that_never_says_what_it_wants_is_ended(stub):
    security = Security(admission=Admission(first_frame_s=0.2))
    async with gateway_before(stub, security) as gateway, grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        call = RawStream(channel)
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "begin with Open" in await call.details()
    assert not stub.tenants


async def test_who_waits_for_the_cloud_is_not_idle(stub):
    stub.is_silent = True
    security = Security(admission=Admission(idle_s=0.2))
    async with gateway_before(stub, security) as gateway, endpoint_of(gateway) as endpoint, endpoint.open(asking()) as link:
        await link.send_hint(chain(1, 2, 3))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):  # five times as long
                await link.next_decision()


async def test_a_slow_reader_is_ended_and_others_are_served(stub):
    security = Security(admission=Admission(slow_reader_s=0.5))
    narrow = [("grpc.http2.bdp_probe", 0)]  # the window stays at 64 KiB
    async with gateway_before(stub, security) as gateway, endpoint_of(gateway) as beside:
        door = gateway.access.door
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=narrow) as channel:
            call = RawStream(channel)
            await call.write(pb.EdgeFrame(open=codec.pack_request(asking(50_000, is_coupled=False))))
            await until(lambda: door.num_streams == 1)
            assert await served(beside) == [7] * 4
            await until(lambda: door.num_streams == 0)
            with pytest.raises(grpc.aio.AioRpcError):
                await read_to_the_end(call)
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "was not read for 0.5 s" in await call.details()
        assert await served(beside) == [7] * 4


async def test_trees_beyond_the_credits_never_reach_the_verifier(stub):
    stub.is_silent = True
    async with gateway_before(stub) as gateway, endpoint_of(gateway) as endpoint:
        async with endpoint.open(asking()) as link:
            for number in range(1, 13):
                await link.send_hint(chain(number, 2, 3))
            await until(lambda: len(stub.num_nodes) == 8)

        async def send_on():
            async with endpoint.open(asking()) as link:
                for number in range(1, 8 + 256 + 2):
                    await link.send_hint(chain(number, 2, 3))
                await link.next_decision()

        with pytest.raises(LimitExceeded, match="far more than 8 trees"):
            await send_on()
    assert len(stub.num_nodes) == 16


async def test_drafts_of_a_wasteful_tenant_are_left_out_and_its_text_is_the_same(stub, tmp_path):
    async with two_tenants(stub, tmp_path, "waste_window = 40\nleast_accepted = 0.1") as (_, acme, other):
        assert await served(acme, asking(30)) == [7] * 30
        assert stub.num_nodes == [4] * 10 + [0] * 20
        stub.num_nodes.clear()
        assert await served(other, asking(30)) == [7] * 30
        assert stub.num_nodes == [4] * 30


async def test_a_second_open_ends_the_stream_alone(stub):
    async with gateway_before(stub) as gateway, endpoint_of(gateway) as endpoint:

        async def open_twice():
            async with endpoint.open(asking()) as link:
                await link.send(pb.EdgeFrame(open=codec.pack_request(asking())))
                await link.next_decision()

        with pytest.raises(InvalidInput, match="opened once"):
            await open_twice()
        assert await served(endpoint) == [7] * 4


def test_a_tree_without_drafts_asks_for_what_it_asked_for():
    hint = pb.EdgeFrame(draft_tree=codec.pack_hint(chain(3, 5, 4)))
    left = codec.unpack_hint(pb.EdgeFrame.FromString(without_drafts(hint)).draft_tree, codec.Limits(), 100)
    assert (left.round, left.tree.base, len(left.tree.tokens)) == (3, 5, 0)


def test_all_tokens_that_are_to_be_read_are_counted():
    rng = np.random.default_rng(1)
    prompt = tuple(rng.integers(0, 1 << 20, 999).tolist())
    assert num_asked(codec.pack_request(asking().__class__(prompt, 5, 1, "", committed=(1, 300)))) == 1001
