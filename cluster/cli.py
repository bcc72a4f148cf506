"""The command line: every verb of `cactus`. Those of the edge and the cloud are defined beside their code."""

from __future__ import annotations

import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cactus_core.errors import InvalidInput
from cactus_core.request_log import log_requests
from cloud.cli import LogOption, MetricsOption, TlsCertOption, TlsClientCaOption, TlsKeyOption, verifier
from cluster.bench import bench
from cluster.doctor_cli import doctor
from cluster.link_cli import link
from cluster.plan_cli import plan
from cluster.termination import run
from cluster.up_cli import InsecureTokensOption, ListenOption, TenantsOption, down, drain, security_of, status, up
from edge.cli import (
    DEFAULT_ENDPOINT,
    DEFAULT_PROMPT,
    BlockOption,
    BudgetOption,
    DeltaOption,
    DraftsOption,
    MaxTokensOption,
    SeedOption,
    TemperatureOption,
    acceptance_for,
    describe,
    export,
    generate,
)
from edge.serve_cli import serve

if TYPE_CHECKING:
    pass

app = typer.Typer(
    help="Edge-cloud speculative serving of large language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    prompt: Annotated[str, typer.Option(help="the text to go on from")] = DEFAULT_PROMPT,
    temperature: TemperatureOption = 1.0,
    seed: SeedOption = 1,
    max_tokens: MaxTokensOption = 160,
    drafts: DraftsOption = None,
    block: BlockOption = None,
    delta: DeltaOption = None,
    budget: BudgetOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")] = None,
) -> None:
    """The whole system on this machine: a Ray cluster, a gateway, and an edge that drafts for it."""
    from cluster.demo import DemoOptions, run_demo

    _check_folder(json_file)
    acceptance = acceptance_for(delta=delta, budget=budget, in_rows=(drafts, block) != (None, None))
    figures = run(run_demo(DemoOptions(prompt, temperature, seed or 0, max_tokens, drafts, block, acceptance)))
    if json_file is not None:
        figures.write(json_file)


@app.command()
def simulate(
    link: Annotated[str, typer.Option(help="profile of each edge's emulated link: perfect, near, regional or far")] = "regional",
    edges: Annotated[int, typer.Option(min=1, help="that are served at once")] = 2,
    replicas: Annotated[int, typer.Option(min=1, help="verifiers behind the gateway")] = 1,
    verifier_delay_ms: Annotated[float, typer.Option(min=0.0, help="pad every step of the verifier to so long: EMULATED")] = 0.0,
    prompt: Annotated[list[str] | None, typer.Option(help="the text to go on from; repeatable, one an edge; default: some of ours")] = None,
    max_tokens: MaxTokensOption = 96,
    temperature: TemperatureOption = 1.0,
    seed: SeedOption = 1,
    cuts: Annotated[int, typer.Option(min=0, help="times that each edge's link is cut, at seeded places of its text")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")] = None,
    svg_file: Annotated[Path | None, typer.Option("--svg", help="also draw the picture into this file")] = None,
) -> None:
    """The whole system on this machine behind emulated links, without Ray: a table and a picture of rounds in time."""
    from cluster.simulate import PROMPTS, SimulateOptions, simulated
    from cluster.timeline_svg import svg

    for file in (json_file, svg_file):
        _check_folder(file)
    prompts = tuple(prompt or PROMPTS)
    options = SimulateOptions(link, edges, verifier_delay_ms, max_tokens, temperature, seed or 0, cuts, prompts, num_replicas=replicas)
    done = simulated(options)
    if json_file is not None:
        done.figures().write(json_file)
    if svg_file is not None:
        svg_file.write_text(svg(done.picture), "utf8")


@app.command()
def gateway(
    replica: Annotated[list[str], typer.Option(help="host:port of a verifier; may be given more than once")],
    listen: ListenOption = DEFAULT_ENDPOINT,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_client_ca: TlsClientCaOption = None,
    tenants: TenantsOption = None,
    insecure_tokens: InsecureTokensOption = False,
    replica_ca: Annotated[
        Path | None, typer.Option(help="PEM CA that signed the verifiers' certificates: reach them by TLS, showing --tls-cert")
    ] = None,
    metrics: MetricsOption = None,
    log: LogOption = None,
) -> None:
    """Stand before verifiers that run elsewhere, without Ray."""
    from cloud.exposition import exposed
    from cluster.gateway import GatewayServer
    from cluster.metrics import GatewayMetrics
    from cluster.router import Router
    from edge.credentials import Credentials

    log_requests(log)
    security = security_of(tls_cert, tls_key, tls_client_ca, tenants, listen, insecure_tokens=insecure_tokens)
    if replica_ca is not None:
        security = replace(security, to_replicas=Credentials(replica_ca, tls_cert, tls_key))

    async def serve() -> None:
        async with GatewayServer(listen, Router(replica), security) as server:
            with exposed(metrics, GatewayMetrics(server)) as metrics_port:
                where = f", metrics on port {metrics_port}" if metrics_port else ""
                print(f"gateway on port {server.port} before {', '.join(replica)}{where}; Ctrl-C ends it", flush=True)
                await server.wait()

    run(serve())


@app.command()
def token() -> None:
    """Make a token: itself to standard output, for the edge's file; the line for the file of tenants to standard error."""
    from cluster.access.tenants import digest_of

    made = secrets.token_urlsafe(32)
    print(made)
    print(f'tokens_sha256 = ["{digest_of(made)}"]', file=sys.stderr)


def _check_folder(file: Path | None) -> None:
    """Before a run whose outcome could not be written down."""
    if file is not None and not file.resolve().parent.is_dir():
        raise InvalidInput(f"there is no folder {file.resolve().parent} to write {file.name} into; make it first")


for verb in (up, status, drain, down, verifier, generate, serve, describe, export, bench, plan, doctor, link):
    app.command()(verb)
