"""The one place where calls of a gateway's server pass on their way in: each is identified, let in, and watched.

Knows calls and their kinds; knows nothing of what answers them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from cactus_core.errors import CactusError
from cactus_core.request_log import facts, request_id_in
from cloud.serving import SERVICE, Context
from cloud.status import abort
from cluster.access.admission import Admission
from cluster.access.callers import CALLER, Callers, network_of
from cluster.access.door import Door
from cluster.access.quotas import OF_A_HOST, Use
from cluster.access.tenants import Tenant, TenantsFile
from cluster.access.watch import Watched, answered

_log = logging.getLogger(__name__)
_SPECULATE = f"/{SERVICE}/Speculate"
_HEALTH = "/grpc.health.v1.Health/"  # whoever balances load has no token
_LONGEST_LOOK_S = 1.0
_HEARD_S = 0.5
_MOST_HEARD = 256  # at once: in a flood nobody is


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Of all calls but a health check: who calls is identified, its quota and the gateway's admission are held, and a stream of
    frames is watched until it ends. Unknown callers are charged to their host, so that they take from nobody else.

    Without `tenants` everybody comes in, within what a host may take.
    """

    def __init__(self, tenants: TenantsFile | None = None, admission: Admission | None = None) -> None:
        """`admission` stands where no file of tenants says otherwise."""
        self._tenants = tenants
        self._callers = Callers(tenants)
        self.door = Door(admission or (tenants.current().admission if tenants else Admission()))
        self._watched: set[Watched] = set()
        self._num_heard = 0
        self._looking: asyncio.TimerHandle | None = None

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler, method = await continuation(handler_call_details), str(handler_call_details.method)
        if handler is None:
            return None
        coders = {"request_deserializer": handler.request_deserializer, "response_serializer": handler.response_serializer}
        is_health = method.startswith(_HEALTH)
        if handler.stream_stream:
            watches = method == _SPECULATE
            return grpc.stream_stream_rpc_method_handler(self._stream(handler.stream_stream, watches=watches), **coders)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream, watches=False, is_health=is_health), **coders)
        if handler.unary_unary and not is_health:
            return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary), **coders)
        return handler

    def _unary(self, handler: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def answer(request: Any, context: Context) -> Any:
            try:
                tenant = self._identify(context)
                self.door.ask(tenant)
            except CactusError as error:
                await self._refuse(context, error)
            CALLER.set(tenant.name)
            return await handler(request, context)

        return answer

    def _stream(
        self, handler: Callable[[Any, Context], Any], *, watches: bool, is_health: bool = False
    ) -> Callable[[Any, Context], Awaitable[None]]:
        async def answer(request: Any, context: Context) -> None:
            try:
                tenant = Tenant(network_of(context), OF_A_HOST) if is_health else self._identify(context)
                self._adjust()
                use = self.door.enter(tenant)
            except CactusError as error:
                if watches:
                    await self._hear(context)
                await self._refuse(context, error)
            CALLER.set(tenant.name)
            try:
                if watches:
                    await self._watch(use, handler, request, context)
                else:
                    await answered(handler, request, context)
            finally:
                self.door.leave(use)

        return answer

    def _identify(self, context: Context) -> Tenant:
        try:
            return self._callers.identify(context)
        except CactusError as error:
            self.door.num_refused[error.code] += 1
            self.door.ask(Tenant(network_of(context), OF_A_HOST))
            raise

    async def _hear(self, context: Context) -> None:
        """The first frame of a stream that is refused, for a moment: an edge whose call ends while it writes never learns why."""
        if self._num_heard < _MOST_HEARD:
            self._num_heard += 1
            try:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(_HEARD_S):
                        await context.read()
            finally:
                self._num_heard -= 1

    async def _refuse(self, context: Context, error: CactusError) -> NoReturn:
        told = facts(request=request_id_in(context.invocation_metadata()), code=error.code)
        _log.info("refused %s: %s", network_of(context), error, extra=told)
        await abort(context, error)

    def _adjust(self) -> None:
        if self._tenants is not None:
            self.door.adjust(self._tenants.current().admission)

    async def _watch(self, use: Use, handler: Callable[[Any, Context], Any], frames: Any, context: Context) -> None:
        watched = Watched(use, self.door.admission)
        self._watched.add(watched)
        self._look_later()
        try:
            await watched.run(handler, frames, context)
        finally:
            self._watched.discard(watched)
            watched.let_go()

    def _look_later(self) -> None:
        """A timer while there are streams, and none without."""
        if self._looking is None and self._watched:
            admission = self.door.admission
            shortest_s = min(admission.idle_s, admission.first_frame_s, admission.slow_reader_s)
            self._looking = asyncio.get_running_loop().call_later(min(_LONGEST_LOOK_S, shortest_s / 4), self._look)

    def _look(self) -> None:
        self._looking, now = None, time.monotonic()
        for watched in self._watched:
            watched.check(now)
        self._look_later()
