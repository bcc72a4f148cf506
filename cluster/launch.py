"""Bringing a cluster up and taking it down again: whatever was started ends, also when starting fails half-way.

Knows which Ray cluster it is, and who keeps what runs there; how it is kept is the fleet's affair (fleet.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cactus_core.errors import InvalidInput, Unavailable
from cluster.actors import HEALTH
from cluster.fleet import GATEWAY, KEEPER, REPLICA, Fleet, FleetOptions, stopped
from cluster.keeper import Keeper
from cluster.ray_cluster import answers, connected, named

_END_S = 20.0


@asynccontextmanager
async def launched(options: FleetOptions, address: str | None = None) -> AsyncIterator[Fleet]:
    """A fleet that serves, on the Ray cluster at `address` or on one that is started here; it ends with the context.

    Raises what loading or listening raises, and `Unavailable` when Ray cannot be had, or keeps a cluster of ours already.
    """
    with connected(address, _num_cpus(options)):
        _check_free()
        fleet = Fleet(_suited(options, address))
        try:
            await fleet.start()
            yield fleet
        finally:
            await fleet.stop()


async def detach(options: FleetOptions, address: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A fleet that goes on without us on the Ray cluster that we are connected to: its models and endpoints.

    Leaves nothing where it fails. Raises as `launched` does.
    """
    _check_free()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    placing = {"name": KEEPER, "lifetime": "detached", "num_cpus": 0, "scheduling_strategy": here}
    keeping = {"max_restarts": -1, "max_task_retries": 1, "max_pending_calls": 1000, "max_concurrency": 4}
    try:
        keeper = ray.remote(Keeper).options(**placing, **keeping).remote(replace(_suited(options, address), is_detached=True))
        [(models, endpoints)] = await answers(keeper.serving.remote())
    except BaseException:
        await taken_down()
        raise
    return models, endpoints


async def taken_down() -> int:
    """Ends whatever of ours runs on the Ray cluster that we are connected to, whoever keeps it: how many parts that were, or zero."""
    parts = named()
    for name, actor in parts.items():
        if name == KEEPER:
            ray.kill(actor)  # first: it would replace what ends
    gateways = [actor for name, actor in parts.items() if name.startswith(GATEWAY)]
    for gateway in gateways:  # whoever keeps a cluster and is no actor learns it so, and stops all of it
        gateway.retire.options(concurrency_group=HEALTH).remote()
    if KEEPER not in parts:
        await _gone()
    await stopped([actor for name, actor in named().items() if name.startswith((GATEWAY, REPLICA))])
    await _gone()
    return len(parts)


async def _gone() -> None:
    """Once there are no parts, or after a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            while named():  # noqa: ASYNC110  # Ray tells nobody
                await asyncio.sleep(0.2)


async def drained(name: str) -> None:
    """The replica takes no new texts from now on. Raises `InvalidInput` for a name that none has, `Unavailable` where it is lost."""
    replicas = named(REPLICA)
    if name not in replicas:
        raise InvalidInput(f"no replica is called {name!r}; there are: {', '.join(replicas) or 'none'}")
    try:
        await asyncio.wait_for(asyncio.ensure_future(_drain(replicas[name])), _END_S)
    except (RayError, TimeoutError) as error:
        raise Unavailable(f"{name} does not answer; look again with `cactus status`") from error


async def _drain(replica: Any) -> None:
    await replica.drain.options(concurrency_group=HEALTH).remote()


def _check_free() -> None:
    if parts := named():
        raise Unavailable(f"this Ray cluster serves already ({', '.join(parts)}); end that with `cactus down`")


def _suited(options: FleetOptions, address: str | None) -> FleetOptions:
    num_replicas = options.replicas.least * len(options.models)
    has_gpus = ray.cluster_resources().get("GPU", 0) >= num_replicas
    # Nodes with GPUs may be yet to come, to a cluster that somebody else runs.
    uses_gpus = options.device != "cpu" and (has_gpus or (options.device == "cuda" and address is not None))
    return replace(options, is_local=address is None, uses_gpus=uses_gpus)


def _num_cpus(options: FleetOptions) -> int:
    """For Ray's accounts: parts of one machine take turns on what cores there are."""
    return max(os.cpu_count() or 1, options.replicas.most * len(options.models) + 1)
