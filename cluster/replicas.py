"""The connections of a gateway to its replicas.

Knows addresses and channels; knows nothing of what goes over them, or of which replica is chosen for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, TypeAlias
from urllib.parse import quote

import grpc.aio

from cactus_core.request_log import KEY, REQUEST
from cactus_core.wire.v1 import speculation_pb2 as pb
from cactus_core.wire.v1 import speculation_pb2_grpc as pb_grpc
from cloud.serving import SERVICE, SPELLED_OUT, TENANT
from edge.credentials import Credentials

Call: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"

# A replica that is gone is to be known as gone within seconds, also where nobody closed the connection; one that comes back is soon found.
_CHANNEL: list[tuple[str, int]] = [
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # of every ping, a keepalive's too: gRPC would wait a minute
    ("grpc.http2.max_pings_without_data", 0),  # no end to them: texts may wait for their edges
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3_000),  # in spite of its name: how long one attempt may take
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.minimal_stack", 1),  # filters that a replica of ours needs not take two KB off each stream
]
_SPECULATE = f"/{SERVICE}/Speculate"


class Replicas:
    """A channel for each replica that is spoken to; `hold` and `release` say for how long it is."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        """Without `credentials` in plain text."""
        self._credentials = credentials
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._num_held: Counter[str] = Counter()

    def hold(self, address: str) -> None:
        """There will be a stream; goes with one `release`."""
        self._num_held[address] += 1

    async def release(self, address: str, known: Collection[str]) -> None:
        """A stream is over. Of a replica that is not `known` any more the last one takes the channel with it."""
        self._num_held[address] -= 1
        if not self._num_held[address]:
            del self._num_held[address]
            if address not in known and (channel := self._channels.pop(address, None)) is not None:
                await channel.close(None)

    def speculate(self, address: str, tenant: str) -> Call:
        """A new stream of frames as bytes, for that tenant, of the request that the task serves."""
        channel: Any = self._channel(address)  # whose type has no place for what leaves bytes as they are
        call: Call = channel.stream_stream(_SPECULATE)(metadata=((TENANT, quote(tenant)), (SPELLED_OUT, "1"), (KEY, REQUEST.get())))
        return call

    async def describe(self, address: str, timeout_s: float) -> pb.Description:
        """What is served there. Raises `grpc.aio.AioRpcError`."""
        stub = pb_grpc.SpeculationStub(self._channel(address))
        description: pb.Description = await stub.Describe(pb.DescribeRequest(), timeout=timeout_s)
        return description

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            if self._credentials is not None:
                self._channels[address] = self._credentials.channel(address, _CHANNEL)
            else:
                self._channels[address] = grpc.aio.insecure_channel(address, options=_CHANNEL)
        return self._channels[address]
