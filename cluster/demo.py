"""The main job on one machine: a Ray cluster with one verifier and a gateway, and an edge process that drafts for it.

Completes a prompt with drafts, then the same prompt by the cloud alone, and prints both side by side.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cactus_core.acceptance import Acceptance
from cactus_core.demo_pair import demo_model
from cactus_core.errors import CactusError
from cluster.emulated_link import EmulatedLink
from cluster.figures import Case, Figures
from cluster.fleet import FleetOptions
from cluster.launch import launched
from edge.summary import Summary


@dataclass(frozen=True, slots=True)
class DemoOptions:
    prompt: str
    temperature: float
    seed: int
    max_tokens: int
    num_rows: int | None
    length: int | None
    acceptance: Acceptance


async def run_demo(options: DemoOptions) -> Figures:
    """Prints text and table. Leaves nothing running, also when interrupted."""
    console, figures, started = Console(highlight=False), Figures("demo"), time.monotonic()
    async with AsyncExitStack() as stack:
        with console.status("starting Ray, one verifier and a gateway ..."):
            here = FleetOptions((demo_model("target"),), "127.0.0.1:0", device="cpu")
            fleet = await stack.enter_async_context(launched(here))
        took = time.monotonic() - started
        console.print(f"[dim]Ray, the verifier and the gateway ({fleet.endpoints[0]}) are up after {took:.0f} s.[/dim]\n")
        link = await stack.enter_async_context(EmulatedLink(fleet.endpoints[0]))
        _count(figures, options, "cactus", await _edge(options, link, plain=False), link)
        link.reset()
        with console.status("the same prompt, decoded by the cloud alone ..."):
            _count(figures, options, "plain", await _edge(options, link, plain=True), link)
    console.print(_table(figures))
    return figures


async def _edge(options: DemoOptions, link: EmulatedLink, *, plain: bool) -> dict[str, Any]:
    """Runs `cactus generate` in a process of its own, which prints the text; returns what it wrote down. Plain runs are not shown."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        verb = [sys.executable, "-m", "cluster", "generate", options.prompt, "--endpoint", link.address, "--draft", demo_model("draft")]
        sampling = ["--temperature", str(options.temperature), "--seed", str(options.seed), "--max-tokens", str(options.max_tokens)]
        shape = [("--drafts", options.num_rows), ("--block", options.length)]
        fixed = [part for flag, value in shape if value is not None for part in (flag, str(value))]
        block = ["--plain"] if plain else [*fixed, *_flags(options.acceptance)]
        out = asyncio.subprocess.DEVNULL if plain else None
        edge = await asyncio.create_subprocess_exec(*verb, *sampling, *block, "--json", str(record), stdout=out)
        try:
            status = await edge.wait()
        finally:
            if edge.returncode is None:
                edge.terminate()
                await edge.wait()
        if status != 0:
            raise CactusError(f"the edge process ended with status {status}; its message is above")
        loaded: dict[str, Any] = json.loads(record.read_text("utf8"))
        return loaded


def _flags(acceptance: Acceptance) -> list[str]:
    flags = ["--rule", acceptance.rule]
    if acceptance.relaxation:
        flags += ["--relaxation", acceptance.relaxation, "--strength", str(acceptance.strength)]
    return [*flags, "--budget", str(acceptance.budget)] if acceptance.budget < math.inf else flags


def _count(figures: Figures, options: DemoOptions, system: str, record: dict[str, Any], link: EmulatedLink) -> None:
    case: Case = {"system": system, "pair": "demo", "profile": "perfect", "temperature": options.temperature}
    if system == "cactus":
        accepted = options.acceptance
        case |= {"rule": accepted.rule, "label": str(accepted.label)}
        case |= {name: size for name, size in (("K", options.num_rows), ("L", options.length)) if size is not None}
        case |= {"relaxation": accepted.relaxation, "strength": accepted.strength} if accepted.relaxation else {}
        case |= {"budget": accepted.budget} if accepted.budget < math.inf else {}
    done = Summary(**record["summary"])
    figures.add(case, "tokens_per_round", done.tokens_per_round, "tokens")
    if done.num_drafted and options.acceptance.relaxation:
        figures.add(case, "divergence", done.divergence, "nats")
    if done.num_drafted:
        figures.add(case, "acceptance", done.acceptance, "share of block positions")
        figures.add(case, "up_bytes_per_drafted_token", link.up_bytes / done.num_drafted, "bytes")
    figures.add(case, "up_bytes_per_token", link.up_bytes / done.num_tokens, "bytes")
    figures.add(case, "down_bytes_per_token", link.down_bytes / done.num_tokens, "bytes")
    figures.add(case, "tokens_per_s", done.tokens_per_s, "tokens/s")
    figures.add(case, "ttft_ms", done.ttft_s * 1e3, "ms")
    figures.add(case, "verifier_s_per_token", done.verify_s / done.num_tokens, "s")


_ROWS = (
    ("tokens per round", "tokens_per_round", "{:.2f}"),
    ("acceptance (share of a block that stands)", "acceptance", "{:.0%}"),
    ("divergence from the target, nats", "divergence", "{:.2f}"),
    ("bytes up per token", "up_bytes_per_token", "{:.0f}"),
    ("bytes up per drafted token", "up_bytes_per_drafted_token", "{:.0f}"),
    ("bytes down per token", "down_bytes_per_token", "{:.0f}"),
    ("verifier time per token, s", "verifier_s_per_token", "{:.5f}"),
    ("tokens/s", "tokens_per_s", "{:.0f}"),
)


def _table(figures: Figures) -> Table:
    table = Table("", "with drafts", "cloud alone")
    for title, metric, form in _ROWS:
        values = [figures.value(metric, system=system) for system in ("cactus", "plain")]
        if values != [None, None]:
            table.add_row(title, *("-" if value is None else form.format(value) for value in values))
    return table
