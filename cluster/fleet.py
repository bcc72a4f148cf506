"""The parts of one cluster, kept as they were asked for: started, followed, replaced, added to, taken away, stopped.

One place decides, from what the parts report: nobody else starts or ends one. Knows Ray's actors; knows nothing of what they serve, of
how Ray was reached, or of who asked for the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cactus_core.errors import CactusError, InvalidInput
from cactus_core.request_log import LogFormat
from cloud.dtype import DType
from cloud.exposition import exposed
from cluster.access.security import Security
from cluster.actors import HEALTH, Gateway, VerifierReplica
from cluster.fleet_metrics import FleetMetrics
from cluster.ray_cluster import answers, named
from cluster.reports import GatewayReport, ReplicaReport
from cluster.routing import Load, Replica, Routes
from cluster.scaling import Bounds, Range, Reading, Scaling

GATEWAY, REPLICA, KEEPER = "gateway-", "replica-", "keeper"  # how names begin
_PERIOD_S = 0.5
_ANSWER_S = 5.0  # a part that takes longer is not counted on meanwhile
_STOP_S = 5.0
_RETRY_S = 5.0  # after a replica that could not be started
# A part that dies is started again, and its calls with it; a caller that floods an actor is told so.
_ACTOR = {"max_restarts": 3, "max_task_retries": 1, "max_pending_calls": 1000}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """Of each of `models`, the first of which is the default, `replicas`; `num_gateways`, at `listen` and the ports after it.

    `is_local`: the whole cluster is this machine. `is_detached`: its parts outlive whoever started them. `uses_gpus`: one a replica.
    """

    models: tuple[str, ...]
    listen: str
    device: str = "auto"
    dtype: DType = DType.AUTO
    memory_gib: float | None = None
    replicas: Range = Range()  # noqa: RUF009  # frozen
    num_gateways: int = 1
    bounds: Bounds = Bounds()  # noqa: RUF009  # frozen
    is_local: bool = True
    is_detached: bool = False
    uses_gpus: bool = False
    security: Security = field(default_factory=Security)  # of the gateways
    metrics: str | None = None  # host:port where Prometheus may ask
    log: LogFormat | None = None  # of requests, by each part

    def __post_init__(self) -> None:
        if not self.models or len({*self.models}) < len(self.models):
            raise InvalidInput("each model is named once: it has as many replicas as --replicas says")
        port = self.listen.rpartition(":")[2]
        if not port.isdecimal() or int(port) + self.num_gateways - 1 >= 1 << 16:
            raise InvalidInput(f"--listen must be host:port with room for {self.num_gateways} port(s), not {self.listen!r}")

    def address_of(self, number: int) -> str:
        """Where the gateway of that `number`, from 1 on, is to listen."""
        host, _, port = self.listen.rpartition(":")
        return f"{host}:{int(port) + number - 1}" if int(port) else self.listen


@dataclass(eq=False, slots=True)
class _Replica:
    name: str
    actor: Any
    source: str
    report: ReplicaReport | None = None  # None: it does not answer
    is_draining: bool = False
    num_idle: int = 0  # reports in a row in which it drained and had no sessions

    @property
    def load(self) -> Load | None:
        """None unless it serves."""
        return self.report.load if self.report is not None else None


@dataclass(eq=False, slots=True)
class _Gateway:
    name: str
    actor: Any
    listen: str
    report: GatewayReport | None = None


@dataclass(eq=False, slots=True)
class Fleet:
    """`start`, then `watch` for as long as it is to be kept, and in any case `stop`."""

    options: FleetOptions
    endpoints: tuple[str, ...] = ()
    metrics_port: int = 0
    models: tuple[str, ...] = ()  # as they are served, in the order in which they were asked for
    _gateways: list[_Gateway] = field(default_factory=list)
    _replicas: list[_Replica] = field(default_factory=list)
    _scalings: dict[str, Scaling] = field(default_factory=dict)
    _retry_at: dict[str, float] = field(default_factory=dict)
    _num_named: int = 0
    _exposing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _following: dict[_Replica, asyncio.Task[None]] = field(default_factory=dict)

    async def start(self) -> None:
        """Returns once every model is served. Parts that are here already, by their names, are taken over.

        Raises what loading or listening raises, and `Unavailable` when a part dies.
        """
        self.metrics_port = self._exposing.enter_context(exposed(self.options.metrics, FleetMetrics(GATEWAY, REPLICA)))
        self._scalings = {source: Scaling(self.options.replicas, self.options.bounds) for source in self.options.models}
        self._gateways = [self._new_gateway(number) for number in range(1, self.options.num_gateways + 1)]
        listening = [gateway.actor.serve.remote(gateway.listen) for gateway in self._gateways]  # sooner than models load
        await self._take_over()
        for source in self.options.models:
            while sum(each.source == source for each in self._replicas) < self.options.replicas.least:
                self._new_replica(source)
        loading = [replica.actor.serve.remote() for replica in self._replicas]
        self.endpoints = tuple((await answers(*listening, *loading))[: len(listening)])
        for gateway, endpoint in zip(self._gateways, self.endpoints, strict=True):
            gateway.listen = f"{gateway.listen.rpartition(':')[0]}:{endpoint.rpartition(':')[2]}"  # also after it died
        for replica, report in zip(self._replicas, await answers(*map(_report_of, self._replicas)), strict=True):
            replica.report = report
        self.models = tuple(self._served_as(source) for source in self.options.models)
        if len({*self.models}) < len(self.models):
            raise InvalidInput(f"two models are both served as {self.models[0]!r}; rename a folder")
        await answers(*(gateway.actor.follow.remote(gateway.listen, self._routes()) for gateway in self._gateways))
        await answers(*(gateway.actor.ready.remote() for gateway in self._gateways))

    async def watch(self) -> None:
        """Keeps it so, until a gateway is told that all of it is to end. Parts that die are replaced."""
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(self._tell(gateway)) for gateway in self._gateways]
                keeping = group.create_task(self._keep(group))
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
                for task in (*parts, keeping, *self._following.values()):
                    task.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def stop(self) -> None:
        """Ends every part, those that still start too."""
        self._exposing.close()
        await stopped([*(gateway.actor for gateway in self._gateways), *(replica.actor for replica in self._replicas)])
        self._gateways, self._replicas = [], []

    async def _tell(self, gateway: _Gateway) -> None:
        """Until it is retired. One that is gone for good is replaced, at the same address."""
        while True:
            try:
                gateway.report = await _within(gateway.actor.follow.remote(gateway.listen, self._routes()))
                if gateway.report.is_retired:
                    return
            except ActorDiedError:
                _log.warning("%s is gone; another takes its place", gateway.name)
                gateway.actor, gateway.report = self._new_gateway(int(gateway.name.removeprefix(GATEWAY))).actor, None
            except (RayError, TimeoutError, CactusError) as error:
                _log.info("%s does not answer: %s", gateway.name, error)
                gateway.report = None
            await asyncio.sleep(_PERIOD_S)

    async def _keep(self, group: asyncio.TaskGroup) -> None:
        while True:
            for replica in self._replicas:
                if replica not in self._following:
                    self._following[replica] = group.create_task(self._follow(replica))
            for source, scaling in self._scalings.items():
                self._scale(source, scaling)
            await asyncio.sleep(_PERIOD_S)

    async def _follow(self, replica: _Replica) -> None:
        """Until it is gone, or has drained; then it is stopped, and known no more."""
        await self._until_gone(replica)
        self._replicas.remove(replica)
        del self._following[replica]
        await stopped([replica.actor])

    async def _until_gone(self, replica: _Replica) -> None:
        starting: asyncio.Task[list[Any]] | None = None
        try:
            while True:
                try:
                    replica.report = await _within(_report_of(replica))
                    replica.is_draining = replica.is_draining or replica.report.is_draining
                    if starting is not None and starting.done():
                        starting.result()  # raises where it could not be loaded
                        starting = None  # it may be started again, and is then to be told again
                    elif starting is None and replica.load is None:
                        starting = asyncio.create_task(answers(replica.actor.serve.remote()))
                    replica.num_idle = replica.num_idle + 1 if self._has_drained(replica) else 0
                    if replica.num_idle > 2:  # by then every gateway knows that it takes no more
                        _log.info("%s has drained", replica.name)
                        return
                except (ActorDiedError, CactusError) as error:
                    _log.warning("%s is gone: %s", replica.name, error)
                    self._retry_at[replica.source] = time.monotonic() + _RETRY_S
                    return
                except (RayError, TimeoutError) as error:  # it is being started again, or its node is not reached
                    _log.info("%s does not answer: %s", replica.name, error)
                    replica.report = None
                    await _ended(starting)
                    starting = None
                await asyncio.sleep(_PERIOD_S)
        finally:
            await _ended(starting)

    def _scale(self, source: str, scaling: Scaling) -> None:
        staying = [each for each in self._replicas if each.source == source and not each.is_draining]
        loads = [each.load for each in staying if each.load is not None]
        num = len(loads)
        queue_s = sum(load.queue_s for load in loads) / max(num, 1)
        occupancy = sum(load.occupancy for load in loads) / max(num, 1)
        now = time.monotonic()
        wanted = scaling.wanted(Reading(num, len(staying) - num, queue_s, occupancy), now)
        if wanted > len(staying) and now >= self._retry_at.get(source, 0.0):
            for _ in range(wanted - len(staying)):
                self._new_replica(source)
        elif wanted < len(staying):
            leaving = min(staying, key=lambda each: each.load.num_sessions if each.load is not None else -1)
            leaving.is_draining = True

    def _routes(self) -> Routes:
        taking = (each.report for source in self.options.models for each in self._taking(source))
        return Routes(self.models, tuple(Replica(each.address, each.model, each.load or Load()) for each in taking if each is not None))

    def _taking(self, source: str) -> list[_Replica]:
        """Who takes new texts of a model: those that drain only as long as nobody else does."""
        serving = [each for each in self._replicas if each.source == source and each.load is not None]
        return [each for each in serving if not each.is_draining] or serving

    def _has_drained(self, replica: _Replica) -> bool:
        is_idle = replica.load is None or not replica.load.num_sessions
        return replica.is_draining and is_idle and replica not in self._taking(replica.source)

    def _served_as(self, source: str) -> str:
        return next(each.report.model for each in self._replicas if each.source == source and each.report is not None)

    def _new_gateway(self, number: int) -> _Gateway:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        name, listen = f"{GATEWAY}{number}", self.options.address_of(number)
        arguments = self.options.is_local, self.options.security, self.options.log
        return _Gateway(name, self._actor(Gateway, name, *arguments, num_cpus=0, scheduling_strategy=here), listen)

    def _new_replica(self, source: str) -> None:
        self._num_named += 1
        name, options = f"{REPLICA}{self._num_named}", self.options
        arguments = source, options.device, options.dtype, options.memory_gib, options.is_local, options.log
        actor = self._actor(VerifierReplica, name, *arguments, num_cpus=1, num_gpus=int(options.uses_gpus))
        self._replicas.append(_Replica(name, actor, source))

    def _actor(self, kind: type, name: str, *arguments: Any, **placing: Any) -> Any:
        lifetime = "detached" if self.options.is_detached else None
        grouped = ray.remote(concurrency_groups={HEALTH: 2})(kind)
        return grouped.options(**_ACTOR, name=name, lifetime=lifetime, get_if_exists=True, **placing).remote(*arguments)

    async def _take_over(self) -> None:
        for name, actor in named(REPLICA).items():
            self._num_named = max(self._num_named, int(name.removeprefix(REPLICA)))
            try:
                report = await _within(actor.report.options(concurrency_group=HEALTH).remote())
            except (RayError, TimeoutError):
                ray.kill(actor)
            else:
                self._replicas.append(_Replica(name, actor, report.source, report, is_draining=report.is_draining))


async def stopped(actors: list[Any]) -> None:
    """Gives every actor a moment to end its streams; then Ray ends it."""
    stopping = asyncio.gather(*(actor.stop.remote() for actor in actors), return_exceptions=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping, _STOP_S)
    for actor in actors:
        ray.kill(actor)


async def _ended(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _report_of(replica: _Replica) -> Any:
    return replica.actor.report.options(concurrency_group=HEALTH).remote()


async def _within(reference: Any) -> Any:
    """Its answer. Raises `TimeoutError` where that takes too long, else what `answers` raises, with Ray's errors as they are."""
    return await asyncio.wait_for(asyncio.ensure_future(_of(reference)), _ANSWER_S)


async def _of(reference: Any) -> Any:
    return await reference
