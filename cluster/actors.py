"""The two kinds of Ray actor that serve: a replica that verifies, and a gateway.

Both serve gRPC from inside their process, so that a token costs no Ray call. Each starts when it is first asked to serve, so that
an actor that Ray has started again serves again. Reports are made in a loop of their own, and wait for nothing. What each serves is
imported in its own process, so that whoever launches them loads no model code. What they do is cloud/service.py and cluster/gateway.py.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import ray
import ray.util

from cactus_core.request_log import LogFormat, log_requests
from cactus_core.turn_taking import take_short_turns
from cloud.dtype import DType
from cluster.access.security import Security
from cluster.reports import GatewayReport, ReplicaReport
from cluster.routing import Routes

HEALTH = "health"  # the group of calls that are answered whatever the others wait for


class VerifierReplica:
    """One target, served at an address of its own; on loopback alone where the whole cluster is this machine (`is_local`)."""

    def __init__(  # Ray passes these on, by their places
        self,
        model: str,
        device: str,
        dtype: DType,
        memory_gib: float | None,
        is_local: bool,  # noqa: FBT001
        log: LogFormat | None = None,
    ) -> None:
        from cloud.service import VerifierServer
        from cluster.load_meter import LoadMeter

        log_requests(log)
        take_short_turns()
        self._source = model
        self._host = "127.0.0.1" if is_local else ray.util.get_node_ip_address()
        self._server = VerifierServer(model, f"{self._host}:0", device=device, dtype=dtype, memory_gib=memory_gib)
        self._meter_of = LoadMeter
        self._meter: LoadMeter | None = None
        self._starting = asyncio.Lock()
        self._is_started = self._is_draining = False

    async def serve(self) -> None:
        """Returns once its model is loaded. Raises what `VerifierServer.loaded` raises."""
        async with self._starting:
            if not self._is_started:
                await self._server.__aenter__()
                self._is_started = True
            if self._meter is None:
                await self._server.loaded()
                self._meter = self._meter_of(self._server.engine, time.monotonic())

    async def report(self) -> ReplicaReport:
        """At once, also before it serves."""
        here = ReplicaReport(self._source, ray.util.get_node_ip_address(), os.getpid(), is_draining=self._is_draining)
        if self._meter is None:
            return here
        load = self._meter.read(time.monotonic())
        address, model = f"{self._host}:{self._server.port}", self._server.engine.served.model
        return ReplicaReport(
            here.source, here.node, here.pid, address, model, load, self._meter.tokens_per_s, is_draining=self._is_draining
        )

    async def metrics(self) -> list[Any]:
        """What cloud/metrics.py tells."""
        from cloud.metrics import VerifierMetrics

        return [*VerifierMetrics(self._server.service).collect()]

    async def drain(self) -> None:
        """It says from now on that it wants no new texts, and to end after those it has."""
        self._is_draining = True

    async def stop(self) -> None:
        if self._is_started:
            await self._server.__aexit__(None, None, None)


class Gateway:
    """The address that edges know. Holds no state that another gateway could not hold."""

    def __init__(self, is_local: bool, security: Security, log: LogFormat | None = None) -> None:  # noqa: FBT001  # Ray passes it on
        from cluster.router import Router

        log_requests(log)
        self._is_local, self._security = is_local, security
        self._router = Router()
        self._server: Any = None  # a GatewayServer, once it is asked for
        self._endpoint = ""
        self._starting = asyncio.Lock()
        self._is_retired = False

    async def serve(self, listen: str) -> str:
        """Listens, before there are replicas, and returns where. Raises `Unavailable` when the address cannot be had."""
        from cluster.gateway import GatewayServer

        async with self._starting:
            if not self._endpoint and not self._is_retired:
                self._server = server = GatewayServer(listen, self._router, self._security)
                await server.__aenter__()
                self._endpoint = f"{self._reachable(listen)}:{server.port}"
        return self._endpoint

    async def follow(self, listen: str, routes: Routes) -> GatewayReport:
        """From now on new streams go where `routes` says. Raises what `serve` raises: one that was started again listens where it did."""
        self._router.follow(routes)
        await self.serve(listen)
        return await self.report()

    async def ready(self) -> None:
        """Returns once a replica answers."""
        if self._server is not None:
            await self._server.ready()

    async def report(self) -> GatewayReport:
        # Its routes come before it listens, so that its first stream finds them; until it does it serves nobody.
        here, num_replicas = ray.util.get_node_ip_address(), len(self._router.addresses) if self._endpoint else 0
        return GatewayReport(here, os.getpid(), self._endpoint, self._router.num_streams, num_replicas, is_retired=self._is_retired)

    async def metrics(self) -> list[Any]:
        """What cluster/metrics.py tells, once it listens."""
        from cluster.metrics import GatewayMetrics

        return [*GatewayMetrics(self._server).collect()] if self._server is not None else []

    async def retire(self) -> None:
        """The whole cluster is to end: whoever keeps it learns that from the next report."""
        self._is_retired = True

    async def stop(self) -> None:
        self._is_retired = True
        if self._server is not None:
            await self._server.__aexit__(None, None, None)
            self._server = None

    def _reachable(self, listen: str) -> str:
        """The host by which others reach what listens there."""
        host = listen.rpartition(":")[0]
        if host not in ("", "0.0.0.0", "[::]"):  # noqa: S104  # what was asked for, not a default
            return host
        return "127.0.0.1" if self._is_local else str(ray.util.get_node_ip_address())
