"""The cloud's verb: verifier. Imports its libraries when it runs, so that `cactus --help` is quick."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cactus_core.demo_pair import demo_model
from cactus_core.request_log import LogFormat, log_requests
from cactus_core.turn_taking import take_short_turns
from cloud.dtype import DType

ModelOption = Annotated[str | None, typer.Option("--model", help="the target: checkpoint folder or hub name; default: the demo's")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one")]
DTypeOption = Annotated[DType, typer.Option(help="of weights, keys and values; auto: float32 on a CPU, bfloat16 on a GPU")]
MemoryOption = Annotated[
    float | None,
    typer.Option("--memory", min=0.001, help="GiB for all requests' keys and values; default: half a GiB, on a GPU most of what is free"),
]
TlsCertOption = Annotated[Path | None, typer.Option(help="PEM certificate of this server: with --tls-key, it is reached by TLS alone")]
TlsKeyOption = Annotated[Path | None, typer.Option(help="PEM private key of --tls-cert")]
TlsClientCaOption = Annotated[Path | None, typer.Option(help="PEM CA: who calls must show a certificate that it signed (mutual TLS)")]
StepOption = Annotated[
    float,
    typer.Option(
        "--step-at-least-ms",
        min=0.0,
        help="pad every step to at least so long by sleeping: a slower verifier, EMULATED; for experiments only",
        show_default=False,
    ),
]


MetricsOption = Annotated[str | None, typer.Option("--metrics", help="host:port where Prometheus may ask; default: nowhere")]

LogOption = Annotated[LogFormat | None, typer.Option("--log", help="a line a request to standard error; default: warnings alone")]


def verifier(
    model: ModelOption = None,
    listen: Annotated[str, typer.Option(help="host:port; port 0 takes any")] = "127.0.0.1:7801",
    device: DeviceOption = "auto",
    dtype: DTypeOption = DType.AUTO,
    memory: MemoryOption = None,
    step_at_least_ms: StepOption = 0.0,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_client_ca: TlsClientCaOption = None,
    metrics: MetricsOption = None,
    log: LogOption = None,
) -> None:
    """Serve one target without Ray, for a gateway elsewhere (`cactus gateway --replica`)."""
    from cloud.certificates import ServerCertificates
    from cloud.exposition import exposed
    from cloud.metrics import VerifierMetrics
    from cloud.service import VerifierServer

    log_requests(log)
    take_short_turns()
    certificates = ServerCertificates.given(tls_cert, tls_key, tls_client_ca)

    async def serve() -> None:
        served = model or demo_model("target")
        step_s = step_at_least_ms / 1e3
        async with VerifierServer(
            served, listen, device=device, dtype=dtype, memory_gib=memory, step_at_least_s=step_s, certificates=certificates
        ) as server:
            with exposed(metrics, VerifierMetrics(server.service)) as metrics_port:
                await server.loaded()
                where = f", metrics on port {metrics_port}" if metrics_port else ""
                print(f"serving {server.engine.served.model} on port {server.port}{where}; Ctrl-C ends it", flush=True)
                await server.wait()

    asyncio.run(serve())
