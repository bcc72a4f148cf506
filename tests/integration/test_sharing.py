"""Many clients of one verifier, over gRPC: who is told apart from whom, and coupled trees by an edge's own hand."""

import grpc.aio
import numpy as np
import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.coupled import CoupledTree
from cactus_core.session import Hint, Request
from cactus_core.wire import codec
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.service import VerifierServer
from cloud.serving import TENANT
from cluster.gateway import GatewayServer
from cluster.router import Router
from tests.sealed import RawStream


@pytest.fixture
async def servers(small_pair):
    async with VerifierServer(str(small_pair.target), "127.0.0.1:0", memory_gib=0.01) as verifier:
        await verifier.loaded()
        async with GatewayServer("127.0.0.1:0", Router([f"127.0.0.1:{verifier.port}"])) as gateway:
            await gateway.ready()
            yield verifier, gateway


def opening(pair, **others):
    return Request((2, 3), 24, 5, pair.tokenizer().fingerprint, **others)


async def test_a_gateway_tells_callers_apart_by_where_they_are_not_by_what_they_say(servers, small_pair):
    verifier, gateway = servers
    tenants = []
    for port in (gateway.port, verifier.port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = RawStream(channel, metadata=((TENANT, "somebody else"),))
            await call.write(pb.EdgeFrame(open=codec.pack_request(opening(small_pair))))
            await call.write(pb.EdgeFrame(draft_block=pb.DraftBlock(round=0, base=2)))
            assert (await call.read()).opened.base == 2
            assert (await call.read()).decision.base == 2
            [session] = verifier.engine._residency._sessions
            tenants.append(session.tenant)
            await call.write(pb.EdgeFrame(close=pb.Close()))
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
    assert tenants == ["ipv4:127.0.0.1", "somebody else"]


async def test_trees_of_ids_alone_bring_the_text_that_none_would(servers, small_pair):
    """Every token of the vocabulary is guessed in every place, to a depth of two: each walk stands whole."""
    _, gateway = servers
    texts = []
    for guess in (False, True):
        text, finish, number = [2, 3], None, 0
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            call = RawStream(channel)
            await call.write(pb.EdgeFrame(open=codec.pack_request(opening(small_pair, acceptance=Acceptance("coupled")))))
            await call.read()
            while finish is None:
                tokens = np.tile(np.arange(8), 9) if guess else np.zeros(0, dtype=np.int64)
                parents = np.concatenate([np.full(8, -1), np.repeat(np.arange(8), 8)]) if guess else tokens
                await call.write(pb.EdgeFrame(draft_tree=codec.pack_hint(Hint(number, CoupledTree(len(text), tokens, parents)))))
                decision = codec.unpack_decision((await call.read()).decision)
                text += decision.accepted
                text += [] if decision.final is None else [decision.final]
                finish, number = decision.finish, number + 1
            await call.write(pb.EdgeFrame(close=pb.Close()))
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
        texts.append(text)
        assert not guess or number == -(-(len(text) - 2) // 3)
    assert texts[0] == texts[1]
