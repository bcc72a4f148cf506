"""What every gRPC server of Cactus has: an address that is its own, a cap on messages, health and reflection.

Knows nothing of what is served; imports no model, so that a gateway is light.
"""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cactus_core.errors import Unavailable
from cactus_core.session import Limits
from cactus_core.wire.v1 import speculation_pb2 as pb

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

SERVICE = pb.DESCRIPTOR.services_by_name["Speculation"].full_name
TENANT = "cactus-tenant"  # metadata in which a gateway tells a verifier for whom a stream is, percent-encoded: a name is any text
SPELLED_OUT = "cactus-spelled-out"  # metadata of whoever has to know what stands of blocks that it does not read
_NAMES = ("", SERVICE)  # health is asked of a server as a whole, or of its service


def server_options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.max_frame_bytes),
        ("grpc.so_reuseport", 0),  # without it a port in use would be shared in silence
        ("grpc.http2.bdp_probe", 0),  # as at the edge, which would answer each
        ("grpc.enable_channelz", 0),  # its records of each connection, which nobody is shown
        # Edges ask every ten seconds whether a silent link still is one: gRPC would take that for an attack.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 10_000),  # of every ping, a keepalive's too: gRPC would wait a minute
        # A caller that is gone without a word holds nothing for longer than this.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 600_000),
        # What a caller never reads is kept for it as long as its connection lasts.
        ("grpc.max_connection_age_ms", 3_600_000),
        ("grpc.max_connection_age_grace_ms", 600_000),
        ("grpc.max_concurrent_streams", 8_192),  # of one connection: whoever opens more is kept waiting at its own end
    ]


def speculation_handler(speculate: Any, describe: Any) -> grpc.GenericRpcHandler[Any, Any]:
    """Both methods of the service: `speculate` takes and gives frames as bytes, `describe` messages."""
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Speculate": grpc.stream_stream_rpc_method_handler(speculate),
            "Describe": grpc.unary_unary_rpc_method_handler(describe, pb.DescribeRequest.FromString, pb.Description.SerializeToString),
        },
    )


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
    """Listens on `host:port` (port 0: any) and returns the port; without `credentials` in plain text.

    Raises `Unavailable` when the address cannot be had.
    """
    try:
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise Unavailable(
            f"cannot listen on {address}: it is in use or not an address of this machine; choose another with --listen"
        ) from error


def tenant_of(context: Context) -> str:
    """Among whom steps are shared fairly: whom a gateway named, or else the caller's host."""
    for key, value in context.invocation_metadata() or ():
        if key == TENANT:
            return unquote(str(value))
    return host_of(context)


def is_spelled_out(context: Context) -> bool:
    """Whether decisions on blocks are to spell out the tokens that stand, as those on trees do."""
    return any(key == SPELLED_OUT for key, _ in context.invocation_metadata() or ())


def host_of(context: Context) -> str:
    """Where the caller is: what a gateway goes by, since whoever calls it may say anything."""
    return str(context.peer()).rpartition(":")[0]


async def add_health(server: grpc.aio.Server) -> health.aio.HealthServicer:
    """Adds standard health and reflection to `server`: NOT_SERVING until `set_serving`."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    for name in _NAMES:
        await servicer.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    return servicer


async def set_serving(servicer: health.aio.HealthServicer) -> None:
    for name in _NAMES:
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
