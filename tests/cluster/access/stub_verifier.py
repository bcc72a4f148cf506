"""A verifier without a model, behind a real gateway: every token is 7, and of each tree or block the first `num_accepted` stand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from cactus_core.acceptance import Acceptance
from cactus_core.coupled import CoupledTree
from cactus_core.rules import COUPLED
from cactus_core.session import Decision, Finish, Hint, Limits, Request, Served
from cactus_core.wire import codec
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.serving import add_health, bind, server_options, set_serving, tenant_of
from cluster.access.security import Security
from cluster.gateway import GatewayServer
from cluster.router import Router
from edge.credentials import Credentials
from edge.link import Endpoint, Link
from tests.sealed import sealing_handler

TOKEN = 7
_SERVED = Served("stub", "of the stub", 100, 100_000, Limits(), {"coupled": "exact"}, {})


class StubVerifier:
    """`num_nodes` are those of each tree that came, in order; `tenants` for whom streams were opened."""

    def __init__(self) -> None:
        self.num_nodes: list[int] = []
        self.tenants: list[str] = []
        self.num_accepted = 0
        self.is_silent = False  # decides nothing

    async def Describe(self, request, context):  # noqa: N802
        return codec.pack_served(_SERVED)

    async def Speculate(self, request_iterator, context):  # noqa: N802
        opening = codec.unpack_request((await anext(request_iterator)).open)
        self.tenants.append(tenant_of(context))
        length = len(opening.prompt) + len(opening.committed)
        yield pb.CloudFrame(opened=pb.Opened(base=length, credits=8))
        num_left = opening.max_tokens - len(opening.committed)
        if not opening.acceptance.is_coupled:
            while num_left:
                num_left -= 1
                yield _decision(0, length, 0, num_left)
                length += 1
        async for frame in request_iterator:
            if frame.WhichOneof("kind") == "close":
                return
            tree = frame.draft_tree
            self.num_nodes.append(tree.num_nodes)
            if not self.is_silent and num_left:
                accepted = min(self.num_accepted, tree.num_nodes, num_left - 1)
                num_left -= accepted + 1
                yield _decision(tree.round, length, accepted, num_left)
                length += accepted + 1


def _decision(number: int, base: int, accepted: int, num_left: int) -> pb.CloudFrame:
    zeros, finish = (0.0,) * (accepted + 1), None if num_left else Finish.LENGTH
    decision = Decision(number, base, 0, accepted, TOKEN, zeros, zeros, finish, 0.0, 0.0, accepted=(TOKEN,) * accepted)
    return pb.CloudFrame(decision=codec.pack_decision(decision, 8))


@asynccontextmanager
async def gateway_before(stub: StubVerifier, security: Security | None = None) -> AsyncIterator[GatewayServer]:
    server = grpc.aio.server(options=server_options(Limits()))
    server.add_generic_rpc_handlers((sealing_handler(stub),))
    health = await add_health(server)
    port = bind(server, "127.0.0.1:0")
    await server.start()
    await set_serving(health)
    try:
        async with GatewayServer("127.0.0.1:0", Router([f"127.0.0.1:{port}"]), security) as gateway:
            await gateway.ready()
            yield gateway
    finally:
        await server.stop(None)


def endpoint_of(gateway: GatewayServer, credentials: Credentials | None = None) -> Endpoint:
    return Endpoint(f"127.0.0.1:{gateway.port}", credentials=credentials)


def with_token(folder: Path, token: str) -> Credentials:
    file = folder / f"{abs(hash(token))}.token"
    file.write_text(token + "\n")
    return Credentials(token_file=file)


def asking(num_tokens: int = 4, num_prompt: int = 2, *, is_coupled: bool = True) -> Request:
    acceptance = Acceptance(COUPLED) if is_coupled else Acceptance()
    return Request((1,) * num_prompt, num_tokens, 1, "of the stub", acceptance=acceptance, decode_alone=not is_coupled)


def chain(number: int, base: int, num_nodes: int) -> Hint:
    """A tree of one path."""
    import numpy as np

    return Hint(number, CoupledTree(base, np.full(num_nodes, TOKEN), np.arange(num_nodes) - 1))


async def served(endpoint: Endpoint, request: Request | None = None) -> list[int]:
    """The tokens of a whole text: a tree of four nodes each time that one is asked for."""
    request = request or asking()
    tokens: list[int] = []
    async with endpoint.open(request) as link:
        await write_all(link, request, tokens)
    return tokens


async def write_all(link: Link, request: Request, tokens: list[int], num_nodes: int = 4) -> None:
    number, finish = 0, None
    while finish is None:
        if request.acceptance.is_coupled:
            number += 1
            await link.send_hint(chain(number, len(request.prompt) + len(tokens), num_nodes))
        decision = await link.next_decision()
        tokens += [*decision.accepted, decision.final]
        finish = decision.finish
