"""The edge's verb serve. Imports its libraries when it runs, so that `cactus --help` is quick."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from cactus_core.demo_pair import demo_model
from cactus_core.request_log import LogFormat, log_requests
from cactus_core.turn_taking import take_short_turns
from edge.cli import DEFAULT_ENDPOINT, EndpointOption, InsecureTokensOption, TlsCaOption, TlsCertOption, TlsKeyOption, TokenFileOption

_DRAFTING, _PLAIN = 4, 64  # requests at once, unless told


def serve(
    endpoint: EndpointOption = None,
    draft: Annotated[
        str | None, typer.Option(help="a draft: folder of `cactus export`, checkpoint, or hub name; default: the demo's")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="draft nothing: the cloud decodes alone")] = False,  # a flag
    tokenizer: Annotated[str | None, typer.Option(help="of --plain: the folder or hub name of the target's tokenizer")] = None,
    listen: Annotated[str, typer.Option(help="host:port of the HTTP server; port 0 takes any")] = "127.0.0.1:8000",
    parallel: Annotated[
        int | None, typer.Option(min=1, help="requests at once, each with a drafter's memory; more are told to come again")
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="what callers name the model; default: what the endpoint does")] = None,
    chat_template: Annotated[str | None, typer.Option(help="a file of Jinja, or plain; default: the tokenizer's own")] = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    token_file: TokenFileOption = None,
    insecure_tokens: InsecureTokensOption = False,  # a flag
    log: Annotated[LogFormat | None, typer.Option("--log", help="a line a request to standard error; default: warnings alone")] = None,
    traces: Annotated[
        str | None, typer.Option(help="OpenTelemetry exporter of a span a round: otlp_proto_http, console; default: none")
    ] = None,
) -> None:
    """Serve OpenAI's API here, drafting for each request, until Ctrl-C."""
    from cactus_core.errors import InvalidInput
    from edge.credentials import Credentials
    from edge.drafting.drafter import Drafter
    from edge.exporting.checkpoint import locate
    from edge.exporting.draft_folder import draft_folder
    from edge.link import Endpoint
    from edge.serving.server import ApiServer
    from edge.tracing import Tracing, exported

    log_requests(log)
    if tokenizer is not None and not plain:
        raise InvalidInput("--tokenizer goes with --plain: a draft brings its own")
    if plain and draft is not None:
        raise InvalidInput("--plain drafts nothing: name the tokenizer's folder with --tokenizer")
    drafters: list[Drafter | None]
    if plain:
        folder = locate(tokenizer or demo_model("target"))
        drafters = [None] * (parallel or _PLAIN)
    else:
        from edge.drafting.onnx_drafter import OnnxDrafter

        folder = draft_folder(draft or demo_model("draft"))
        drafter = OnnxDrafter.load(folder)
        drafters = [drafter, *(drafter.twin() for _ in range((parallel or _DRAFTING) - 1))]
    take_short_turns()
    there = Endpoint(*(endpoint or [DEFAULT_ENDPOINT]), credentials=Credentials(tls_ca, tls_cert, tls_key, token_file, insecure_tokens))

    async def until_interrupted(tracing: Tracing) -> None:
        server = ApiServer(there, listen, folder, drafters, name=model_name, chat_template=chat_template, tracing=tracing)
        async with server.serving():
            print(f"serving {server.model} at {server.url}/v1, {len(drafters)} requests at once; Ctrl-C ends it", flush=True)
            print(f"try:  curl {server.url}/v1/completions -H 'Content-Type: application/json' \\", flush=True)
            print(f'        -d \'{{"model": "{server.model}", "prompt": "def main(", "max_tokens": 32}}\'', flush=True)
            over, loop = asyncio.Event(), asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):  # which would else be raised wherever the loop stands, and tear what it ends
                loop.add_signal_handler(number, over.set)
            await over.wait()

    with exported(traces) as tracing:
        asyncio.run(until_interrupted(tracing))
    raise KeyboardInterrupt
