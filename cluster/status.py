"""Asking the parts of a cluster how they are: each at most a moment.

Knows Ray's actors by their names; knows nothing of who keeps them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray.exceptions import RayError

from cactus_core.errors import Unavailable
from cluster.actors import HEALTH
from cluster.fleet import GATEWAY, REPLICA
from cluster.ray_cluster import named
from cluster.reports import GatewayReport, ReplicaReport

_ANSWER_S = 5.0


async def reports() -> tuple[dict[str, GatewayReport | None], dict[str, ReplicaReport | None]]:
    """Of gateways and replicas, by name; None of who does not answer. Raises `Unavailable` where there are none."""
    parts = named()
    found = dict(zip(parts, await asyncio.gather(*map(_report, parts.values())), strict=True))
    gateways = {name: report for name, report in found.items() if name.startswith(GATEWAY)}
    replicas = {name: report for name, report in found.items() if name.startswith(REPLICA)}
    if not gateways and not replicas:
        raise Unavailable("nothing is served on this Ray cluster; start with `cactus up`")
    return gateways, replicas


async def _report(actor: Any) -> Any:
    if not hasattr(actor, "report"):
        return None
    try:
        return await asyncio.wait_for(asyncio.ensure_future(_asked(actor)), _ANSWER_S)
    except (RayError, TimeoutError):
        return None


async def _asked(actor: Any) -> Any:
    return await actor.report.options(concurrency_group=HEALTH).remote()
