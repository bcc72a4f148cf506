"""The gateway: the one address that edges know, in front of any number of verifiers.

Answers calls; each stream's way is a passage's affair (passage.py), the choice of a replica a router's. Knows nothing of models,
of decisions, or of Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any, Self

import grpc
import grpc.aio

from cactus_core.errors import CactusError, InvalidInput, Unavailable, error_for
from cactus_core.request_log import REQUEST, facts, request_id_in
from cactus_core.session import Limits
from cactus_core.wire.frames import Inbox
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.serving import Context, add_health, bind, server_options, set_serving, speculation_handler
from cloud.status import errors_as_status
from cluster.access.callers import caller_of
from cluster.access.security import Security
from cluster.passage import Ending, Passage
from cluster.replicas import Replicas
from cluster.router import Router
from cluster.traffic import Traffic
from edge.credentials import Credentials

_PROBE_S = 0.2  # how often a gateway without a ready replica looks again
_DESCRIBE_TIMEOUT_S = 5.0
_log = logging.getLogger(__name__)


class GatewayService:
    """`Speculate` and `Describe`, answered by a replica that the router names."""

    def __init__(self, router: Router, credentials: Credentials | None = None) -> None:
        self._router = router
        self.traffic = Traffic()
        self._replicas = Replicas(credentials)
        self._leaving: set[asyncio.Task[None]] = set()  # streams whose edges have gone

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """Frames come and go as bytes; descriptions are messages."""
        return speculation_handler(self._speculate, self._describe)

    async def _describe(self, _: pb.DescribeRequest, context: Context) -> pb.Description:
        async with errors_as_status(context):
            return await self.describe()
        raise AssertionError("the status ended the call")

    async def _speculate(self, _: object, context: Any) -> None:
        REQUEST.set(request_id_in(context.invocation_metadata()))
        started, code = time.monotonic(), "CANCELLED"
        try:
            ending = await self._passed(context)
            code = ending.code.name
        except CactusError as error:
            code = error.code
            async with errors_as_status(context):
                raise error from None
        finally:
            _log.info("stream ended", extra=facts(code=code, seconds=round(time.monotonic() - started, 4), tenant=caller_of(context)))
        if ending.code is not grpc.StatusCode.OK:
            await context.abort(ending.code, ending.details, ending.metadata)

    async def _passed(self, context: Any) -> Ending:
        first = await context.read()
        if not isinstance(first, bytes):
            raise InvalidInput("a stream must begin with Open")
        inbox = Inbox()
        passage = Passage(context, inbox, inbox.open(first), caller_of(context), self._router, self._replicas, self.traffic)
        try:
            return await passage.run()
        finally:
            if not passage.is_over:
                leaving = asyncio.create_task(passage.end_in_peace())
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)

    async def describe(self) -> pb.Description:
        """What the first replica that answers serves. Raises the last one's error when none does."""
        problem: CactusError = Unavailable("no verifier is ready behind this gateway; try again in a few seconds")
        for replica in self._router.serving():
            try:
                return await self._replicas.describe(replica.address, _DESCRIBE_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                problem = _from_replica(error)
        raise problem

    async def close(self) -> None:
        """After the last call: ends what it left."""
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._replicas.close()


def _from_replica(error: grpc.aio.AioRpcError) -> CactusError:
    ending = Ending(error.code(), error.details() or "")
    if ending.is_lost or ending.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(ending.line)
    return error_for(ending.code.name, ending.details)


class GatewayServer:
    """A gateway at an address: an async context. Its health is NOT_SERVING until a replica answers.

    Entering it raises `InvalidInput` for a `security` that does not hold together.
    """

    def __init__(self, address: str, router: Router, security: Security | None = None) -> None:
        self._address, self.router = address, router
        self._security = security or Security()
        self.service = GatewayService(router, self._security.to_replicas)
        self.port = 0

    async def __aenter__(self) -> Self:
        self._security.check(self._address)
        credentials = self._security.credentials()
        self.access = self._security.interceptor()
        self._server = grpc.aio.server(options=server_options(Limits()), interceptors=[self.access])
        self._server.add_generic_rpc_handlers((self.service.handler(),))
        self._health = await add_health(self._server)
        self.port = bind(self._server, self._address, credentials)
        await self._server.start()
        self._probing = asyncio.create_task(self._probe())
        return self

    async def _probe(self) -> None:
        while True:
            with contextlib.suppress(CactusError):
                await self.service.describe()
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
        await self.service.close()
