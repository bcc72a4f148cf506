"""Bringing a cluster up and taking it down again: whatever was started ends, also when starting fails half-way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

# Before Ray reads them: a local demo sends no usage reports, and workers without a GPU keep their own view of devices.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import RayActorError, RayTaskError

from cactus_core.errors import CactusError, Unavailable
from cluster.access.security import Security
from cluster.actors import Gateway, VerifierReplica

# A replica that dies is started again, and its calls with it; a caller that floods an actor is told so.
_ACTOR = {"max_restarts": 3, "max_task_retries": 1, "max_pending_calls": 1000, "concurrency_groups": {"health": 2}}
_STOP_S = 5.0
_WATCH_S = 2.0


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """`address` of a running Ray cluster, or None to start one here that ends with the context."""

    model: str
    listen: str
    device: str
    memory_gib: float | None = None
    num_replicas: int = 1
    address: str | None = None
    security: Security = field(default_factory=Security)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: edges go to `endpoint`."""

    endpoint: str
    model_id: str
    gateway: Any
    replicas: tuple[Any, ...]

    async def watch(self) -> None:
        """Keeps the gateway's list of replicas true, one that was started again included.

        Raises `Unavailable` when a part is gone for good.
        """
        known = await _addresses(self.replicas)
        while True:
            await asyncio.sleep(_WATCH_S)
            now = await _addresses(self.replicas)
            if now != known:
                await _get([self.gateway.route_to.remote(now)])
                known = now


@asynccontextmanager
async def launched(options: ClusterOptions) -> AsyncIterator[Cluster]:
    """A gateway and its replicas on Ray. Raises what loading or listening raises, and `Unavailable` when Ray does not start."""
    _init(options.address)
    actors: list[Any] = []
    try:
        gateway = _actor(Gateway, options.listen, options.security, num_cpus=0)
        actors.append(gateway)
        ported = gateway.port.remote()  # before the replicas load, which takes longer than to find the port taken
        num_gpus = 1 if options.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= options.num_replicas else 0
        is_local = options.address is None
        replicas = tuple(
            _actor(VerifierReplica, options.model, options.device, options.memory_gib, is_local, num_cpus=1, num_gpus=num_gpus)
            for _ in range(options.num_replicas)
        )
        actors += replicas
        loading = asyncio.ensure_future(_addresses(replicas))
        [port] = await _get([ported])
        await _get([gateway.route_to.remote(await loading)])
        [model_id] = await _get([replicas[0].model_id.remote()])
        yield Cluster(f"{_reachable(options.listen)}:{port}", model_id, gateway, replicas)
    finally:
        await _stop(actors)
        ray.shutdown()


def _init(address: str | None) -> None:
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        line = str(error).split("\n")[0]
        raise Unavailable(f"no Ray cluster could be had at {address or 'this machine'}: {line}") from error
    finally:
        signal.signal(signal.SIGTERM, on_terminate)  # Ray sets its own, which would end us before what we started


def _actor(kind: type, *args: Any, **resources: int) -> Any:
    return ray.remote(**_ACTOR, **resources)(kind).remote(*args)


def _reachable(listen: str) -> str:
    """The host by which this machine reaches what listens there."""
    host = listen.rpartition(":")[0]
    return "127.0.0.1" if host in ("", "0.0.0.0", "[::]") else host  # noqa: S104  # what was asked for, not a default


async def _addresses(replicas: tuple[Any, ...]) -> list[str]:
    return await _get([replica.address.options(concurrency_group="health").remote() for replica in replicas])


async def _get(references: list[Any]) -> list[Any]:
    """The results, without blocking the loop; an actor's own error as it was raised there."""
    try:
        return list(await asyncio.gather(*references))
    except RayTaskError as error:
        if isinstance(error.cause, CactusError):
            raise error.cause from None
        raise
    except RayActorError as error:
        raise Unavailable(f"a part of the cluster died: {str(error).splitlines()[0]}; start it again with `cactus up`") from None


async def _stop(actors: list[Any]) -> None:
    """Gives every actor a moment to end its streams; then Ray ends it."""
    stopping = asyncio.gather(*(actor.stop.remote() for actor in actors), return_exceptions=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping, _STOP_S)
    for actor in actors:
        ray.kill(actor)
