"""The two kinds of Ray actor: a replica that verifies, and a gateway.

Both serve gRPC from inside their process, so that a token costs no Ray call. Each starts when it is first asked where it
is, so that an actor that Ray has started again serves again. What each serves is imported in its own process, so that
whoever launches them loads no model code. What they do is cloud/service.py and cluster/gateway.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import ray.util

if TYPE_CHECKING:
    from cluster.access.security import Security


class VerifierReplica:
    """One target, served at an address of its own; on loopback alone where the whole cluster is this machine (`is_local`)."""

    def __init__(self, model: str, device: str, memory_gib: float | None, is_local: bool) -> None:  # noqa: FBT001  # Ray passes it on
        from cloud.service import VerifierServer

        self._host = "127.0.0.1" if is_local else ray.util.get_node_ip_address()
        self._server = VerifierServer(model, f"{self._host}:0", device=device, memory_gib=memory_gib)
        self._starting = asyncio.Lock()
        self._is_started = False

    async def address(self) -> str:
        """Where it serves, once its model is loaded. Raises what `VerifierServer.loaded` raises."""
        async with self._starting:
            if not self._is_started:
                await self._server.__aenter__()
                self._is_started = True
                await self._server.loaded()
        return f"{self._host}:{self._server.port}"

    async def model_id(self) -> str:
        return self._server.engine.served.model

    async def stop(self) -> None:
        if self._is_started:
            await self._server.__aexit__(None, None, None)


class Gateway:
    """The address that edges know. Holds no state that another gateway could not hold."""

    def __init__(self, listen: str, security: Security) -> None:
        from cluster.gateway import GatewayServer
        from cluster.router import Router

        self._router = Router()
        self._server = GatewayServer(listen, self._router, security)
        self._starting = asyncio.Lock()
        self._is_started = False

    async def port(self) -> int:
        """Where it listens, before there are replicas. Raises `Unavailable` when the address cannot be had."""
        async with self._starting:
            if not self._is_started:
                await self._server.__aenter__()
                self._is_started = True
        return self._server.port

    async def route_to(self, replicas: list[str]) -> None:
        """Returns once one of them answers."""
        self._router.replace(replicas)
        await self.port()
        await self._server.ready()

    async def stop(self) -> None:
        if self._is_started:
            await self._server.__aexit__(None, None, None)
