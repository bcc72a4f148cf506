"""`cactus bench faults`: claim: whatever dies or is damaged on the way, every text of the coupled family is what it would have been.

Two verifiers of the demo target and two gateways, each a process, and edges in this one, whose frames pass a relay that flips, cuts,
doubles, swaps and stalls them (cluster/faulty_relay.py) behind an *emulated* link that is cut and stalled. Meanwhile verifiers and
gateways are killed by SIGKILL and started again at their addresses, links fall half open, and this process's wall clock jumps. Against: the
same requests without faults. Refuted by: a text that differs (a token lost, doubled or taken back), a request that ends with an error, or
by a session, a page of memory, a stream, a task, a process or a port that is left when all is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.fault_parts import Part, started
from benchmarks.prompts import PROMPTS
from benchmarks.table import Table, rows_of, write_into
from cactus_core.acceptance import Acceptance
from cactus_core.demo_pair import demo_model
from cactus_core.errors import CactusError
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cluster.emulated_link import EmulatedLink
from cluster.faulty_relay import FaultyRelay
from cluster.figures import Case, Figures
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.drafting.ngram_drafter import NgramDrafter
from edge.link import Endpoint
from edge.tokenizer import Tokenizer

_PATIENCE_S = 300.0
_FRAME_FAULTS = 0.02  # of frames
_KILL_EVERY_S = 2.0  # after the one before serves again
_LINK_EVERY_S = 0.5
_HALF_OPEN_EVERY = 4  # of the times that it is drawn: each costs its edges fifteen seconds
_LAST_WORDS_S = 2.0  # for tasks that were told to end and are not waited for
_HEALTHY_S = 120.0  # until nothing is left: a gateway finds out within forty seconds that a connection is half open
_CLOCK_JUMP_S = 3600.0
_TEMPERATURE = 0.8
_ROOM = 1 << 20  # positions: what is looked up has no end of its own


@dataclass(slots=True)
class Outcome:
    """Of all requests: their texts by number, errors by their kind, and how often one had to go on over another stream."""

    texts: dict[int, list[int]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    num_resumes: int = 0


def run(*, quick: bool) -> Figures:
    """Measures everything. A progress bar shows on a terminal."""
    num_requests, num_tokens, num_at_once = (40, 32, 40) if quick else (1000, 48, 300)
    return asyncio.run(_run(num_requests, num_tokens, num_at_once))


def show(figures: Figures) -> None:
    for table in tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Writes the table into the folder's faults.md, where it has one."""
    if (page := folder / "faults.md").exists():
        write_into(page, tables(figures))
        print(f"wrote the table of {page}")


def tables(figures: Figures) -> list[Table]:
    rows = [
        (str(row["case"].get("fault", row["case"].get("error", row["case"].get("left", "")))), row["metric"], f"{row['value']:g}")
        for metric in ("num_requests", "num_faults", "num_resumes", "num_errors", "texts_differing", "num_left")
        for row in rows_of(figures, metric)
    ]
    return [Table("faults", "what befell requests, and what became of their texts", ("kind", "what", "count"), tuple(rows))]


async def _run(num_requests: int, num_tokens: int, num_at_once: int) -> Figures:
    figures, counts = Figures("faults"), Counter[str]()
    tokenizer = Tokenizer.load(Path(demo_model("draft")))
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        verifiers = [await stack.enter_async_context(started("verifier", "--device", "cpu")) for _ in range(2)]
        replicas = [option for part in verifiers for option in ("--replica", part.address)]
        gateways = [await stack.enter_async_context(started("gateway", *replicas)) for _ in range(2)]
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        bar = progress.add_task("texts", total=2 * num_requests)
        asked = _Asked(tokenizer, num_requests, num_tokens, lambda: progress.advance(bar))
        async with Endpoint(gateways[0].address, gateways[1].address) as endpoint:
            expected = await _texts(await _clients(endpoint, tokenizer, num_at_once), asked)
        async with _faulty(gateways, counts) as (endpoint, links):
            clients = await _clients(endpoint, tokenizer, num_at_once)
            meanwhile = [
                asyncio.create_task(_kill(verifiers, gateways, counts)),
                asyncio.create_task(_disturb(links, counts)),
            ]
            try:
                found = await _texts(clients, asked)
            finally:
                for task in meanwhile:
                    task.cancel()
                await asyncio.gather(*meanwhile, return_exceptions=True)
        left = await _left(verifiers, gateways)
    left["processes"] = sum(part.is_running for part in (*verifiers, *gateways))
    left["ports"] = sum([await _answers(part.address) for part in (*verifiers, *gateways)])
    await asyncio.sleep(_LAST_WORDS_S)
    left["tasks"] = sum(not _is_of_grpc(task) for task in asyncio.all_tasks() - before)
    case: Case = {"system": "cactus", "pair": "demo", "family": "coupled", "emulated": True, "clients": num_at_once, "tokens": num_tokens}
    figures.add(case, "num_requests", num_requests, "requests")
    for name, count in sorted(counts.items()):
        figures.add(case | {"fault": name}, "num_faults", count, "faults")
    figures.add(case | {"fault": "all"}, "num_faults", sum(counts.values()), "faults")
    figures.add(case, "num_resumes", found.num_resumes, "streams")
    for name, count in sorted((expected.errors + found.errors).items()):
        figures.add(case | {"error": name}, "num_errors", count, "requests")
    figures.add(case | {"error": "any"}, "num_errors", sum(found.errors.values()), "requests")
    differing = sum(found.texts.get(number) not in (None, text) for number, text in expected.texts.items())
    figures.add(case, "texts_differing", differing, "texts")
    for name, held in left.items():
        figures.add(case | {"left": name}, "num_left", held, name)
    return figures


async def _left(verifiers: Sequence[Part], gateways: Sequence[Part]) -> dict[str, float]:
    """What is held for requests that are over, once nothing is, or after a while."""
    started = time.monotonic()
    while True:
        left = {
            "sessions": sum([await part.gauge("cactus_sessions") for part in verifiers]),
            "pages": sum([await part.gauge("cactus_kv_pages_used") for part in verifiers]),
            "streams": sum([await part.gauge("cactus_gateway_streams") for part in gateways]),
        }
        if not any(left.values()) or time.monotonic() - started > _HEALTHY_S:
            return left
        await asyncio.sleep(1.0)


async def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


def _is_of_grpc(task: asyncio.Task[object]) -> bool:
    """A server of this process takes its next call in a new task each time, until it is collected."""
    return getattr(task.get_coro(), "__qualname__", "").startswith("AioServer.")


@dataclass(frozen=True, slots=True)
class _Asked:
    """Requests of `num_tokens` each; `advance` is called after each."""

    tokenizer: Tokenizer
    num_requests: int
    num_tokens: int
    advance: Callable[[], None]


async def _clients(endpoint: Endpoint, tokenizer: Tokenizer, count: int) -> list[Completer]:
    """Every other one drafts, from the text itself. All know already what is served: what never worked would not be tried again."""
    clients = []
    for number in range(count):
        drafter = NgramDrafter(tokenizer.vocab_size, _ROOM) if number % 2 else None
        clients.append(Completer(endpoint, tokenizer, drafter, Drafting(patience_s=_PATIENCE_S)))
        await clients[-1].served()
    return clients


async def _texts(clients: Sequence[Completer], asked: _Asked) -> Outcome:
    """All clients at once, each one request after the other."""
    outcome = Outcome()

    async def write(client: Completer, numbers: Iterable[int]) -> None:
        for number in numbers:
            completion = Completion(PROMPTS[number % len(PROMPTS)])
            settings = {"max_tokens": asked.num_tokens, "sampling": SamplingParams(_TEMPERATURE), "acceptance": Acceptance(COUPLED)}
            try:
                async for _ in client.generate(completion, seed=number, **settings):  # type: ignore[arg-type]  # each of its own type
                    pass
            except CactusError as error:
                outcome.errors[f"{type(error).__name__}: {error}"] += 1
            else:
                outcome.texts[number] = [token.id for token in completion.tokens]
                outcome.num_resumes += completion.summary.num_resumes
            asked.advance()

    await asyncio.gather(*(write(client, range(first, asked.num_requests, len(clients))) for first, client in enumerate(clients)))
    return outcome


@asynccontextmanager
async def _faulty(gateways: Sequence[Part], counts: Counter[str]) -> AsyncIterator[tuple[Endpoint, list[EmulatedLink]]]:
    """An endpoint whose way to each gateway passes a link and a relay."""
    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(FaultyRelay(part.address, _FRAME_FAULTS, seed)) for seed, part in enumerate(gateways)]
        links = [await stack.enter_async_context(EmulatedLink(relay.address, seed=seed)) for seed, relay in enumerate(relays)]
        yield await stack.enter_async_context(Endpoint(*(link.address for link in links))), links
        for relay in relays:
            counts.update({f"frame {name}": count for name, count in relay.counts.items()})


async def _kill(verifiers: Sequence[Part], gateways: Sequence[Part], counts: Counter[str]) -> None:
    """One part after the other, never both of a kind."""
    turn = 0
    while True:
        await asyncio.sleep(_KILL_EVERY_S)
        kind, parts = (("verifier killed", verifiers), ("gateway killed", gateways))[turn % 2]
        counts[kind] += 1
        restarting = asyncio.create_task(parts[turn // 2 % 2].killed())
        try:
            await asyncio.shield(restarting)
        except asyncio.CancelledError:  # all are to be there in the end, to be asked what they hold
            await restarting
            raise
        turn += 1


async def _disturb(links: Sequence[EmulatedLink], counts: Counter[str]) -> None:
    random, real = np.random.default_rng(0), time.time
    with contextlib.ExitStack() as stack:
        jump = stack.enter_context(mock.patch("time.time", side_effect=real))
        for number in itertools.count():
            await asyncio.sleep(_LINK_EVERY_S)
            link = links[int(random.integers(len(links)))]
            match int(random.integers(4)):
                case 0:
                    link.cut()
                    counts["link cut"] += 1
                case 1:
                    link.stall(0.5)
                    counts["link stalled"] += 1
                case 2 if number % _HALF_OPEN_EVERY == 0:
                    link.half_open(upward=bool(random.integers(2)))
                    counts["link half open"] += 1
                case _:
                    by_s = _CLOCK_JUMP_S * float(random.uniform(-1, 1))
                    jump.side_effect = lambda by_s=by_s: real() + by_s
                    counts["clock stepped"] += 1
