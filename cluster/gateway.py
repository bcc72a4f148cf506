"""The gateway: the one address that edges know, in front of any number of verifiers.

Passes each stream's frames to one replica and back, as they come. Knows frames and addresses; knows nothing of models,
of decisions, or of Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Self

import grpc
import grpc.aio

from cactus_core.errors import CactusError, Unavailable, error_for
from cactus_core.session import Limits
from cactus_core.wire.v1 import speculation_pb2 as pb
from cactus_core.wire.v1 import speculation_pb2_grpc as pb_grpc
from cloud.serving import TENANT, Context, add_health, bind, server_options, set_serving
from cloud.status import errors_as_status
from cluster.access.callers import caller_of
from cluster.access.security import Security
from cluster.router import Router

_PROBE_S = 0.2  # how often a gateway without a ready replica looks again
_DESCRIBE_TIMEOUT_S = 5.0


class GatewayService(pb_grpc.SpeculationServicer):
    """`Speculate` and `Describe`, answered by a replica that the router names."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.Description:  # noqa: N802  # the proto's name
        async with errors_as_status(context):
            return await self.describe()
        raise AssertionError("the status ended the call")

    async def Speculate(  # noqa: N802  # the proto's name
        self, request_iterator: AsyncIterator[pb.EdgeFrame], context: Context
    ) -> AsyncIterator[pb.CloudFrame]:
        async with errors_as_status(context):
            address = await self._ready_replica()
            call = self._stub(address).Speculate(metadata=((TENANT, caller_of(context)),))
            upward = asyncio.create_task(_pass_up(request_iterator, call))
            try:
                while isinstance(frame := await call.read(), pb.CloudFrame):
                    yield frame
                if await call.code() is not grpc.StatusCode.OK:
                    raise error_for((await call.code()).name, await call.details())
            except grpc.aio.AioRpcError as error:
                raise _from_replica(error) from None
            finally:
                upward.cancel()
                call.cancel()  # nothing to a call that has ended

    async def describe(self) -> pb.Description:
        """What the first replica that answers serves. Raises the last one's error when none does."""
        problem: CactusError = Unavailable("no verifier is ready behind this gateway")
        described: pb.Description
        for address in self._router.order():
            try:
                described = await self._stub(address).Describe(pb.DescribeRequest(), timeout=_DESCRIBE_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                problem = _from_replica(error)
            else:
                return described
        raise problem

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)

    async def _ready_replica(self) -> str:
        """The first replica in turn whose channel is, or becomes, connected."""
        for address in self._router.order():
            channel = self._channel(address)
            if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
                return address
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(channel.channel_ready(), timeout=1.0)
                return address
        raise Unavailable("no verifier behind this gateway can be reached; try again in a few seconds")

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)])
        return self._channels[address]

    def _stub(self, address: str) -> pb_grpc.SpeculationStub:
        return pb_grpc.SpeculationStub(self._channel(address))


async def _pass_up(frames: AsyncIterator[pb.EdgeFrame], call: Any) -> None:
    # When the replica ends the call first, its status is what the reading side reports.
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        async for frame in frames:
            await call.write(frame)
        await call.done_writing()


def _from_replica(error: grpc.aio.AioRpcError) -> CactusError:
    code, details = error.code().name, error.details() or ""
    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and "still loading" not in details:
        return Unavailable("the verifier behind this gateway cannot be reached; try again in a few seconds")
    return error_for(code, details)


class GatewayServer:
    """A gateway at an address: an async context. Its health is NOT_SERVING until a replica answers.

    Entering it raises `InvalidInput` for a `security` that does not hold together.
    """

    def __init__(self, address: str, router: Router, security: Security | None = None) -> None:
        self._address = address
        self._security = security or Security()
        self._service = GatewayService(router)
        self.port = 0

    async def __aenter__(self) -> Self:
        self._security.check(self._address)
        credentials = self._security.credentials()
        self.access = self._security.interceptor()
        self._server = grpc.aio.server(options=server_options(Limits()), interceptors=[self.access])
        pb_grpc.add_SpeculationServicer_to_server(self._service, self._server)
        self._health = await add_health(self._server)
        self.port = bind(self._server, self._address, credentials)
        await self._server.start()
        self._probing = asyncio.create_task(self._probe())
        return self

    async def _probe(self) -> None:
        while True:
            with contextlib.suppress(CactusError):
                await self._service.describe()
                await set_serving(self._health)
                return
            await asyncio.sleep(_PROBE_S)

    async def ready(self) -> None:
        """Returns once a replica answers."""
        await self._probing

    async def wait(self) -> None:
        await self._server.wait_for_termination()

    async def __aexit__(self, *_: object) -> None:
        self._probing.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace=1.0)
        await self._service.close()
