"""The verbs of a cluster on Ray: up, status, drain, down. Imports its libraries when it runs, so that `cactus --help` is quick."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cactus_core.demo_pair import demo_model
from cactus_core.errors import InvalidInput
from cloud.cli import DeviceOption, DTypeOption, LogOption, MemoryOption, MetricsOption, TlsCertOption, TlsClientCaOption, TlsKeyOption
from cloud.dtype import DType
from cluster.termination import run
from edge.cli import DEFAULT_ENDPOINT

if TYPE_CHECKING:  # Ray takes seconds to import
    from cluster.access.security import Security
    from cluster.fleet import FleetOptions

ListenOption = Annotated[str, typer.Option(help="host:port of the gateway; port 0 takes any")]
TenantsOption = Annotated[Path | None, typer.Option(help="TOML file of who may come in, and how much each may take (SECURITY.md)")]
InsecureTokensOption = Annotated[bool, typer.Option("--insecure-tokens", help="take tokens in plain text too, as behind a proxy with TLS")]
AddressOption = Annotated[str, typer.Option(help="of the Ray cluster; auto: the one here")]


def up(
    model: Annotated[
        list[str] | None, typer.Option("--model", help="a target: checkpoint folder or hub name; repeatable, the first is the default")
    ] = None,
    listen: ListenOption = DEFAULT_ENDPOINT,
    replicas: Annotated[str, typer.Option(help="of each model: a number, or MIN:MAX, between which load decides")] = "1",
    gateways: Annotated[int, typer.Option(min=1, help="at the port of --listen and those after it")] = 1,
    address: Annotated[str | None, typer.Option(help="of a running Ray cluster to join (auto: the one here); default: start one")] = None,
    device: DeviceOption = "auto",
    dtype: DTypeOption = DType.AUTO,
    memory: MemoryOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_client_ca: TlsClientCaOption = None,
    tenants: TenantsOption = None,
    insecure_tokens: InsecureTokensOption = False,
    metrics: MetricsOption = None,
    log: LogOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="come back once it serves; `cactus down` ends it")] = False,
) -> None:
    """Serve targets on a Ray cluster behind gateways, until Ctrl-C."""
    from cluster.fleet import FleetOptions
    from cluster.scaling import Range

    if detach and address is None:
        raise InvalidInput("--detach needs a Ray cluster that stays: start one with `ray start --head`, and give --address auto")
    models = tuple(model or [demo_model("target")])
    security = security_of(tls_cert, tls_key, tls_client_ca, tenants, listen, insecure_tokens=insecure_tokens)
    number = Range.parse(replicas)
    options = FleetOptions(models, listen, device, dtype, memory, number, gateways, security=security, metrics=metrics, log=log)
    run(_detached(options, address) if detach and address is not None else _served(options, address))


async def _served(options: FleetOptions, address: str | None) -> None:
    from cluster.launch import launched
    from cluster.ray_cluster import ray_address

    async with launched(options, address) as fleet:
        _tell(fleet.models, fleet.endpoints, options)
        if fleet.metrics_port:
            print(f"metrics of all parts on port {fleet.metrics_port}", flush=True)
        print(f"look: cactus status  (Ray is at {ray_address()}); Ctrl-C ends it", flush=True)
        await fleet.watch()
        print("taken down by `cactus down`", flush=True)


async def _detached(options: FleetOptions, address: str) -> None:
    from cluster.launch import detach
    from cluster.ray_cluster import connected, ray_address

    with connected(address):
        _tell(*await detach(options, address), options)
        print(f"look: cactus status  (Ray is at {ray_address()}); `cactus down` ends it", flush=True)


def _tell(models: tuple[str, ...], endpoints: tuple[str, ...], options: FleetOptions) -> None:
    print(f"serving {', '.join(models)} at {', '.join(endpoints)} with {options.replicas} replica(s) of each", flush=True)
    print(f"try:  cactus generate {' '.join(f'--endpoint {endpoint}' for endpoint in endpoints)}", flush=True)


def status(address: AddressOption = "auto") -> None:
    """Say what a cluster's parts are doing. Ends with 1 when there is none."""
    from rich.console import Console

    from cluster.ray_cluster import connected
    from cluster.status import reports
    from cluster.status_table import table_of

    with connected(address):
        gateways, replicas = asyncio.run(reports())
    Console(highlight=False).print(table_of(gateways, replicas))


def drain(
    replica: Annotated[str, typer.Argument(help="its name, as `cactus status` has it")],
    address: AddressOption = "auto",
) -> None:
    """Let a replica end its texts and go; another takes its place if too few are left."""
    from cluster.launch import drained
    from cluster.ray_cluster import connected

    with connected(address):
        asyncio.run(drained(replica))
    print(f"{replica} takes no new texts and ends after those it has")


def down(address: AddressOption = "auto") -> None:
    """End a cluster, whoever started it. No cluster is no error."""
    from cluster.launch import taken_down
    from cluster.ray_cluster import connected

    with connected(address):
        num_parts = asyncio.run(taken_down())
    print(f"{num_parts} part(s) ended")


def security_of(
    certificate: Path | None, key: Path | None, client_ca: Path | None, tenants: Path | None, listen: str, *, insecure_tokens: bool
) -> Security:
    """Checked before anything starts."""
    from cloud.certificates import ServerCertificates
    from cluster.access.security import Security

    security = Security(ServerCertificates.given(certificate, key, client_ca), tenants, insecure_tokens)
    security.check(listen)
    return security
