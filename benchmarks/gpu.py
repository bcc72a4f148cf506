"""`cactus bench gpu`: claim: on a GPU a step costs little more than the model's forward, and clients' drafts bring at least 2.5 times
the tokens of a verifier-busy second at 32 clients of a model of 8 billion parameters.

Needs a GPU. Targets have real models' shapes and random weights; acceptance is *synthetic*: rounds of the demo pair, recorded on the
CPU, are replayed (benchmarks/capacity.py says how). A step is timed from the moment that all drafts are queued to the last decision.
Beside it stand two forwards of the same weights on as many tokens in one causal sequence: `transformers`' own with its `sdpa`
attention, and ours alone, captured as the step's is. Refuted by: a `speedup_vs_plain` below 2.5 at temperature 1, or steps of blocks
that take over 1.1 times `transformers`' forward.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks import capacity, gpu_tables
from benchmarks.edge_clients import Shape, drafts
from benchmarks.gpu_targets import SHAPES, shaped_as
from benchmarks.lockstep import between_steps, lap, opened, running_engine
from benchmarks.medians import add_median
from benchmarks.table import write_into
from benchmarks.targets import Served
from cactus_core.block import Block, empty_block
from cactus_core.errors import Unavailable
from cloud.engine import Engine
from cloud.pages import PageTable
from cloud.segment import chain
from cloud.session import Session
from cloud.tree import DraftTree
from cluster.figures import Case, Figures

LIMITS = {"step_overhead": 1.1, "speedup_vs_plain": 2.5}
_SHAPE = Shape(K=4, L=6, S=64)
_BATCHES = (1, 8, 32)
# A GPU reads many tokens in the time of one, so that longer paths and wider supports are worth their reading.
_SHAPES = (Shape(1, 6, 64), *(Shape(1, length, 128) for length in (5, 6, 7, 8)), Shape(1, 8, 512))
_RECORDED_TOKENS = 128  # of each client's text: what a shape brings must be known well, for the best of several is chosen
_PROMPT_TOKENS = 200
_ROOM = 4000  # tokens that a session may be sent
_TOKEN_BUDGET = 1024
_NUM_PAGES = 4096
_NUM_CLIENTS = 32


def run(*, quick: bool) -> Figures:
    """Measures everything. A progress bar shows on a terminal. Raises `Unavailable` without a GPU."""
    if not torch.cuda.is_available():
        raise Unavailable("this benchmark needs a GPU that PyTorch can use, and there is none here")
    figures = Figures("gpu", torch.cuda.get_device_name())
    names = list(SHAPES)[:1] if quick else list(SHAPES)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=1 + len(names) * (len(_BATCHES) + 4))
        recorded = capacity.recorded(_SHAPES, 16 if quick else _RECORDED_TOKENS, quick=quick)
        progress.advance(bar)
        for name in names:
            served = shaped_as(name)
            with running_engine(served.target, _NUM_PAGES, token_budget=_TOKEN_BUDGET) as engine:
                for batch in _BATCHES:
                    measure_steps(figures, served, engine, batch, num_pairs=10 if quick else 40)
                    progress.advance(bar)
                for asked in capacity.short_and_long(_NUM_CLIENTS):
                    capacity.replay_on(figures, served, engine, recorded, asked, lambda: progress.advance(bar))
            del served
            torch.cuda.empty_cache()
    return figures


def show(figures: Figures) -> None:
    for table in gpu_tables.tables(figures):
        table.show(Console())


def document(figures: Figures, folder: Path) -> None:
    """Writes the tables into the folder's gpu.md, where it has one."""
    if (page := folder / "gpu.md").exists():
        write_into(page, gpu_tables.tables(figures))
        print(f"wrote the tables of {page}")


def measure_steps(figures: Figures, served: Served, engine: Engine, batch: int, num_pairs: int) -> None:
    """`step_overhead` against both forwards, and the times behind it."""
    requests = [served.request([*range(seed, seed + _PROMPT_TOKENS)], _ROOM, seed=seed) for seed in range(batch)]
    with opened(engine, requests) as sessions:
        lap(engine, sessions, _nothing(sessions), 0)  # reads the prompts
        drafted = drafts(sessions, _SHAPE)  # what is drafted is all the same to the clock: the same again after whatever came
        systems: dict[str, Callable[[Sequence[Session]], list[Block]]] = {"blocks": partial(_moved, drafted), "plain": _nothing}
        for system, blocks_of in systems.items():
            case: Case = {"system": system, "model": served.name, "parameters": served.num_parameters, "batch": batch}
            case |= {"K": _SHAPE.K, "L": _SHAPE.L, "S": _SHAPE.S} if system == "blocks" else {}
            taken = list(_taken(served, engine, sessions, blocks_of, num_pairs))
            add_median(figures, case, "tokens_per_step", [num_tokens for num_tokens, _, _, _ in taken], "tokens")
            add_median(figures, case, "step_ms", [1e3 * step_s for _, step_s, _, _ in taken], "ms")
            for against, column in (("transformers", 2), ("captured", 3)):
                add_median(figures, case | {"against": against}, "forward_ms", [1e3 * row[column] for row in taken], "ms")
                add_median(figures, case | {"against": against}, "step_overhead", [row[1] / row[column] for row in taken], "times")


def _moved(blocks: Sequence[Block], sessions: Sequence[Session]) -> list[Block]:
    return [Block(len(session.text), b.tokens, b.law_of, b.laws) for b, session in zip(blocks, sessions, strict=True)]


def _nothing(sessions: Sequence[Session]) -> list[Block]:
    return [empty_block(len(session.text)) for session in sessions]


def _taken(
    served: Served, engine: Engine, sessions: list[Session], blocks_of: Callable[[Sequence[Session]], list[Block]], count: int
) -> Iterator[tuple[int, float, float, float]]:
    """Tokens of a step, and the seconds of the step and of both forwards."""
    first = sessions[0].last.round + 1 if sessions[0].last else 0
    scratch = PageTable(sessions[0].table.pool)
    for number in range(first, first + 3 + count):
        blocks = blocks_of(sessions)
        num_tokens = sum(1 + len(DraftTree.of(block).tokens) for block in blocks)
        step_s = lap(engine, sessions, blocks, number).wall_s
        theirs = _seconds(engine, partial(served.bare_forward, num_tokens))
        ours = _seconds(engine, partial(_captured, served, scratch, num_tokens))
        if number >= first + 3:  # the first ones warm all of them up
            yield num_tokens, step_s, theirs, ours


def _captured(served: Served, table: PageTable, num_tokens: int) -> None:
    served.target.forward([chain(table, np.arange(num_tokens))])
    table.release()


def _seconds(engine: Engine, call: Callable[[], None]) -> float:
    def timed() -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - started

    return between_steps(engine, timed)
