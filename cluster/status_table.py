"""A cluster at a glance: what its parts say of themselves, as a table.

Knows reports; knows nothing of how they are had.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from cluster.reports import GatewayReport, ReplicaReport


def table_of(gateways: Mapping[str, GatewayReport | None], replicas: Mapping[str, ReplicaReport | None]) -> Table:
    """By name; None is who does not answer."""
    table = Table("part", "state", "serves", "at", "pid", "texts", "queue ms", "memory", "tokens/s", box=None, pad_edge=False)
    for name, gateway in gateways.items():
        if gateway is None:
            table.add_row(name, "lost")
            continue
        state = "serving" if gateway.num_replicas else "waiting"
        what = f"{gateway.num_replicas} replicas"
        table.add_row(name, state, what, gateway.endpoint, str(gateway.pid), str(gateway.num_streams))
    for name, replica in replicas.items():
        if replica is None:
            table.add_row(name, "lost")
        elif replica.load is None:
            table.add_row(name, "loading", Path(replica.source).name, "", str(replica.pid))
        else:
            load = replica.load
            table.add_row(
                name,
                "draining" if replica.is_draining else "serving",
                replica.model,
                replica.address,
                str(replica.pid),
                str(load.num_sessions),
                f"{1e3 * load.queue_s:.0f}",
                f"{load.occupancy:.0%}",
                f"{replica.tokens_per_s:.0f}",
            )
    return table
