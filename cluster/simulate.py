"""The whole system on one machine behind emulated links: verifiers, a gateway, and edges that are all served at once.

Every part is a process of its own, without Ray, but for the links, which are here. The same requests are decoded twice: by the cloud
alone, then with drafts.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import math
import os
import re
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from cactus_core.demo_pair import demo_model
from cactus_core.errors import CactusError, InvalidInput
from cluster.comparison import Comparison, Taken
from cluster.emulated_link import EmulatedLink
from cluster.figures import Case, Figures
from cluster.link_profile import LinkProfile, profile_named
from cluster.termination import run
from cluster.timeline import Picture, course_of, middle
from cluster.timeline_text import drawn
from edge.summary import Summary
from edge.tokenizer import Tokenizer
from edge.tuning.plan import TreePlan

PROMPTS = (
    "class Queue:\n    def __init__(self",
    "def read_config(path",
    "import threading\nfrom typing import",
    "class Parser:\n    def feed(self, data",
    "def walk(top, topdown=True",
    "class Server:\n    def close(self):",
    "def main():\n    parser = argparse.",
    "    for key, value in",
)
_SHOWN_S = 1.0  # of the run, in the picture
_STOP_S = 5.0  # that a part has to end by itself
_HOLD_S = 0.05
_NOTES = (
    "alone: the same requests, decoded by the cloud alone, all edges at once too.",
    "p50, p95: milliseconds a token. up, down: bytes a token, at the socket.",
)
_UNCUT = 0.1  # the last tenth of a text


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """`num_cuts` is of each edge's link. Edge i has the i-th of `prompts`, which start again when they are used up, and `seed` + i.
    With a `tree` no edge tunes.
    """

    link: str
    num_edges: int
    verifier_delay_ms: float
    max_tokens: int
    temperature: float
    seed: int
    num_cuts: int = 0
    prompts: tuple[str, ...] = PROMPTS
    tree: TreePlan | None = None
    num_replicas: int = 1

    def __post_init__(self) -> None:
        if self.num_replicas < 1:
            raise InvalidInput(f"a gateway needs 1 or more replicas behind it, not {self.num_replicas}")
        if self.num_cuts > self._last_cut:
            raise InvalidInput(f"{self.max_tokens} tokens leave room for {self._last_cut} cuts, not {self.num_cuts}; raise --max-tokens")

    @property
    def _last_cut(self) -> int:
        return int(self.max_tokens * (1 - _UNCUT))

    def cuts(self, number: int) -> list[int]:
        """After how many tokens the `number`-th edge's link is cut: seeded, and each at most once."""
        places = np.random.default_rng((self.seed, number)).choice(self._last_cut, self.num_cuts, replace=False)
        return sorted(int(place) + 1 for place in places)


@dataclass(frozen=True, slots=True)
class Simulated:
    options: SimulateOptions
    comparison: Comparison
    picture: Picture

    def figures(self) -> Figures:
        asked, figures = self.options, Figures("simulate")
        case: Case = {"pair": "demo", "profile": asked.link, "temperature": asked.temperature, "clients": asked.num_edges}
        case["replicas"] = asked.num_replicas
        self.comparison.count(figures, case | {"verifier_delay_ms": asked.verifier_delay_ms, "emulated": True})
        return figures


def simulated(options: SimulateOptions) -> Simulated:
    """`run_simulation`, from outside of a loop. A terminated run ends as an interrupted one does, with `KeyboardInterrupt`."""
    return run(run_simulation(options))


async def run_simulation(options: SimulateOptions) -> Simulated:
    """Prints the table and the picture. Leaves nothing running, also when interrupted or when a part fails.

    Raises `InvalidInput` for a link that there is not, and `CactusError` when a part ends before its time.
    """
    profile, console = profile_named(options.link), Console(highlight=False)
    async with AsyncExitStack() as stack:
        with console.status("starting verifiers and a gateway ..."):
            pad = ["--step-at-least-ms", str(options.verifier_delay_ms)] if options.verifier_delay_ms else []
            line = ("verifier", "--listen", "127.0.0.1:0", "--device", "cpu", *pad)
            # All are started before the first is waited for: they load at once.
            parts = {name: await stack.enter_async_context(_part(*line)) for name in _names(options.num_replicas)}
            replicas = [flag for name, verifier in parts.items() for flag in ("--replica", await _address(name, verifier))]
            gateway = await stack.enter_async_context(_part("gateway", "--listen", "127.0.0.1:0", *replicas))
            endpoint = await _address("gateway", gateway)
        parts["gateway"] = gateway
        with console.status("the cloud decodes alone ..."):
            alone = await _served(options, profile, endpoint, parts, plain=True)
        with console.status("the edges draft ..."):
            drafted = await _served(options, profile, endpoint, parts, plain=False)
    found = Comparison(drafted, alone)
    done = Simulated(options, found, _picture(options, profile, found))
    _print(console, done)
    return done


def _names(num_replicas: int) -> list[str]:
    """Of verifiers, in messages."""
    return ["verifier"] if num_replicas == 1 else [f"verifier {number}" for number in range(1, num_replicas + 1)]


async def _served(
    options: SimulateOptions, profile: LinkProfile, endpoint: str, parts: dict[str, Process], *, plain: bool
) -> tuple[Taken, ...]:
    """All edges at once, each behind a link of its own."""
    async with AsyncExitStack() as stack:
        seeds = range(options.seed, options.seed + options.num_edges)
        links = [await stack.enter_async_context(EmulatedLink(endpoint, profile, seed=seed)) for seed in seeds]
        try:
            async with asyncio.TaskGroup() as group:
                watches = [group.create_task(_watch(name, part)) for name, part in parts.items()]
                edges = [group.create_task(_edge(options, number, link, plain=plain)) for number, link in enumerate(links)]
                await _start_together(links)
                taken = [await edge for edge in edges]
                for watch in watches:
                    watch.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return tuple(taken)


async def _start_together(links: Sequence[EmulatedLink]) -> None:
    """Holds back what the first edges say until the last has begun to speak."""
    while not all(link.up_bytes for link in links):
        for link in links:
            link.stall(_HOLD_S)
        await asyncio.sleep(_HOLD_S / 5)


async def _edge(options: SimulateOptions, number: int, link: EmulatedLink, *, plain: bool) -> Taken:
    """Runs `cactus generate` in a process of its own, and cuts its link as the text grows."""
    prompt = options.prompts[number % len(options.prompts)]
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        verb = ["generate", prompt, "--endpoint", link.address, "--draft", demo_model("draft"), "--json", str(record)]
        sampling = ["--temperature", str(options.temperature), "--seed", str(options.seed + number)]
        how = ["--plain"] if plain else _fixed(options.tree)
        async with _part(*verb, *sampling, "--max-tokens", str(options.max_tokens), *how) as process:
            await _cut_along(process, prompt, options.cuts(number), link)
            status = await process.wait()
        if status != 0:
            raise CactusError(f"an edge process ended with status {status}; its message is above")
        done = json.loads(record.read_text("utf8"))
    ids = tuple(token["id"] for token in done["tokens"])
    return Taken(done["text"], tuple(done["rounds"]), Summary(**done["summary"]), link.up_bytes, link.down_bytes, ids)


def _fixed(tree: TreePlan | None) -> list[str]:
    """Flags of `cactus generate`."""
    if tree is None:
        return []
    wait = [] if math.isinf(tree.wait_s) else ["--wait-ms", str(tree.wait_s * 1e3)]
    return ["--tree", str(tree.num_nodes), *wait]


async def _cut_along(edge: Process, prompt: str, cuts: list[int], link: EmulatedLink) -> None:
    """Reads what an edge prints until its end. Cuts the link once its text is so many tokens long, once for all that came at once."""
    tokenizer, text = Tokenizer.load(Path(demo_model("draft"))), codecs.getincrementaldecoder("utf8")("replace")
    shown, num_before = "", len(tokenizer.encode(prompt))
    async for piece in _pieces(edge):
        shown += text.decode(piece)
        if cuts and len(tokenizer.encode(shown)) - num_before >= cuts[0]:
            del cuts[0]
            link.cut()


async def _pieces(process: Process) -> AsyncIterator[bytes]:
    while process.stdout is not None and (piece := await process.stdout.read(1 << 16)):
        yield piece


@asynccontextmanager
async def _part(*verb: str) -> AsyncIterator[Process]:
    """A verb of `cactus` in a process of its own, which is told to end, and if need be killed, when the context is left."""
    # What a terminal would be coloured by is no part of the text that is read here.
    plain = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "cluster", *verb, stdout=PIPE, env=plain)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _address(name: str, part: Process) -> str:
    """Where a part listens: it says so once it serves."""
    line = await part.stdout.readline() if part.stdout is not None else b""
    port = re.search(rb" on port (\d+)", line)
    if port is None:
        raise CactusError(f"the {name} ended with status {await part.wait()}; its message is above")
    return f"127.0.0.1:{int(port[1])}"


async def _watch(name: str, part: Process) -> None:
    raise CactusError(f"the {name} ended with status {await part.wait()} in the middle of the run; start it again")


def _picture(options: SimulateOptions, profile: LinkProfile, found: Comparison) -> Picture:
    edges = tuple(course_of(taken.rounds, profile.one_way_s) for taken in found.drafted)
    alone = course_of(found.alone[0].rounds, profile.one_way_s)
    shown = middle((*edges, alone), _SHOWN_S)
    return Picture(
        f"{profile.name}, emulated: {profile.description}", profile.one_way_s, options.verifier_delay_ms / 1e3, shown, edges, alone
    )


def _print(console: Console, done: Simulated) -> None:
    delay_ms, found = done.options.verifier_delay_ms, done.comparison
    padded = f", emulated: each step padded to {delay_ms:g} ms" if delay_ms else ""
    console.print(Text(f"Link      {done.picture.link}"))
    several = f" on {done.options.num_replicas} replicas" if done.options.num_replicas > 1 else ""
    console.print(Text(f"Verifier  the demo target{several}{padded}\n"))
    console.print(found.table(console.width))
    same = "Drafts changed no text." if not found.num_differing else f"{found.num_differing} texts differ from the cloud's alone."
    console.print(Text("\n".join((*_NOTES, same, "")), "dim"))
    console.print(drawn(done.picture, console.width))
