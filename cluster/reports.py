"""What the parts of a cluster say of themselves: values that travel between Ray's processes."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.routing import Load


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """Of a replica of the model that was asked for as `source`. It serves, as `model` at `address`, once it has a `load`."""

    source: str
    node: str
    pid: int
    address: str = ""
    model: str = ""
    load: Load | None = None
    tokens_per_s: float = 0.0
    is_draining: bool = False


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """Of a gateway. It is to be reached at `endpoint`: empty until it listens, as is its number of replicas. One that `is_retired`
    serves no more, by its operator's wish.
    """

    node: str
    pid: int
    endpoint: str = ""
    num_streams: int = 0
    num_replicas: int = 0
    is_retired: bool = False
