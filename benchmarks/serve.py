"""`cactus bench serve`: what `cactus serve` adds to the first token of a stream, and to the whole of it.

Claim: over a perfect link an OpenAI stream shows its first token no later than plain cloud decoding does, plus 30 ms. Refuted by a median
difference above that, of `cactus serve` with a draft or without. Against: the cloud that decodes alone, read by the edge's own client
without HTTP. Verifier and servers are processes of their own; the systems take turns in random order, and no prompt comes twice, so that
none is read from another's pages. On a small machine drafter and verifier share the cores: a first tree that is drafted while the cloud
reads the prompt then draws out that step, which `--plain` beside it tells from what the server adds.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import Progress

from benchmarks.medians import add_median
from benchmarks.table import Table, write_into
from benchmarks.verifier_process import verifier_process
from cactus_core.demo_pair import demo_model
from cactus_core.sampling import SamplingParams
from cluster.figures import Case, Figures
from edge.completer import Completer
from edge.completion import Completion
from edge.link import Endpoint
from edge.tokenizer import Tokenizer

_CLAIM_MS = 30.0
_ALONE = "cloud alone, no HTTP"
_SERVERS = {"cactus serve": (), "cactus serve --plain": ("--plain",)}
_PROMPTS = {"short": 'class Queue:\n    """A queue."""\n', "long": "def area(width, height):\n    return width * height\n\n\n" * 30}
_MAX_TOKENS = 32
_BIAS = {"0": -100}  # no text ends early


def run(*, quick: bool) -> Figures:
    """Measures. A progress bar shows on a terminal."""
    repeats = 12 if quick else 150
    figures = Figures("serve")
    with (
        ExitStack() as stack,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        address = stack.enter_context(verifier_process(1))
        urls = {name: stack.enter_context(_server(address, flags)) for name, flags in _SERVERS.items()}
        bar = progress.add_task("measuring", total=repeats * len(_PROMPTS))
        asyncio.run(_measure(figures, address, urls, repeats, lambda: progress.advance(bar)))
    return figures


async def _measure(figures: Figures, address: str, urls: dict[str, str], repeats: int, advance: Callable[[], None]) -> None:
    rng = random.Random(1)
    tokenizer = Tokenizer.load(Path(demo_model("target")))
    async with Endpoint(address) as endpoint, httpx.AsyncClient(timeout=60) as http:
        alone, number = Completer(endpoint, tokenizer, None), 0

        async def timed(system: str, length: str) -> tuple[float, float]:
            nonlocal number
            number += 1
            prompt = f"# {number:06d}\n{_PROMPTS[length]}"
            return await (_alone(alone, prompt) if system == _ALONE else _over_http(http, urls[system], prompt))

        systems = [_ALONE, *urls]
        for system in systems:  # warm: models, tuners, connections
            for _ in range(4):
                await timed(system, "short")
        for length in _PROMPTS:
            times: dict[str, list[tuple[float, float]]] = {system: [] for system in systems}
            for _ in range(repeats):
                for system in rng.sample(systems, len(systems)):
                    times[system].append(await timed(system, length))
                advance()
            for system in systems:
                case: Case = {"system": system, "prompt": length, "profile": "perfect"}
                add_median(figures, case, "ttft_ms", [1e3 * first for first, _ in times[system]], "ms")
                add_median(figures, case, "tokens_per_s", [_MAX_TOKENS / whole for _, whole in times[system]], "1/s")
                if system != _ALONE:
                    added = [1e3 * (ours - theirs) for (ours, _), (theirs, _) in zip(times[system], times[_ALONE], strict=True)]
                    add_median(figures, case, "ttft_added_ms", added, "ms")


async def _alone(client: Completer, prompt: str) -> tuple[float, float]:
    """Seconds to the first token and to the last."""
    started, first = time.perf_counter(), 0.0
    sampling = SamplingParams(temperature=0.7, logit_bias=tuple((int(token), bias) for token, bias in _BIAS.items()))
    async for _ in client.generate(Completion(prompt), max_tokens=_MAX_TOKENS, sampling=sampling, seed=1):
        first = first or time.perf_counter() - started
    return first, time.perf_counter() - started


async def _over_http(http: httpx.AsyncClient, url: str, prompt: str) -> tuple[float, float]:
    asked = {
        "model": "demo",
        "prompt": prompt,
        "max_tokens": _MAX_TOKENS,
        "temperature": 0.7,
        "seed": 1,
        "logit_bias": _BIAS,
        "stream": True,
    }
    started, first = time.perf_counter(), 0.0
    async with http.stream("POST", f"{url}/v1/completions", json=asked) as answer:
        answer.raise_for_status()
        async for _ in answer.aiter_lines():
            first = first or time.perf_counter() - started
    return first, time.perf_counter() - started


@contextmanager
def _server(address: str, flags: tuple[str, ...]) -> Iterator[str]:
    """The address of a `cactus serve` before the verifier at `address`. Raises `RuntimeError` where it does not start."""
    command = [sys.executable, "-m", "cluster", "serve", "--endpoint", address, "--listen", "127.0.0.1:0", "--model-name", "demo", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if " at http://" not in line:
                raise RuntimeError("cactus serve does not start")
            yield line.partition(" at ")[2].partition("/v1")[0]
        finally:
            process.terminate()


def show(figures: Figures) -> None:
    """Prints the table, and whether the claim held."""
    _table(figures).show(Console())
    worst = max(row["value"] for row in figures.rows if row["metric"] == "ttft_added_ms")  # type: ignore[type-var]
    print(f"first token at most {_CLAIM_MS:g} ms after the cloud alone: {'held' if worst <= _CLAIM_MS else 'NOT held'}, {worst:.1f} ms")  # type: ignore[operator]


def document(figures: Figures, folder: Path) -> None:
    """Writes the table into the folder's serve.md, where it has one."""
    if (page := folder / "serve.md").exists():
        write_into(page, [_table(figures)])
        print(f"wrote the table of {page}")


def _table(figures: Figures) -> Table:
    rows = []
    for length in _PROMPTS:
        for system in (_ALONE, *_SERVERS):
            found = [figures.value(metric, system=system, prompt=length) for metric in ("ttft_ms", "ttft_added_ms", "tokens_per_s")]
            first, added, pace = ("-" if value is None else f"{value:.1f}" for value in found)
            rows.append((length, system, first, added, pace))
    header = ("prompt", "system", "first token, ms", "later than the cloud alone, ms", "tokens/s")
    return Table("serve", "A stream's first token, over a perfect link", header, tuple(rows))
