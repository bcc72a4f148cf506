"""Claim: a step costs little more than the model's own forward: at most 1.5 times on the demo target, 1.1 times on 470M parameters.

A step plans, reads every session's drafts over its pages, decides and commits; it is timed from the moment that all drafts
are queued to the last decision. Against: the same weights' own forward, by `transformers`' attention, on as many tokens in one
causal sequence, logits included, in the engine's own thread. Steps and forwards take turns.
Refuted by: a `step_overhead` of blocks (K = 4, L = 6) above those limits. Plain decoding, where few tokens share what
a step costs, is reported beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from benchmarks.edge_clients import Shape, drafts, prompts
from benchmarks.lockstep import between_steps, decoded, lap, opened, running_engine
from benchmarks.medians import add_median
from benchmarks.targets import Served, demo, large
from cactus_core.block import Block, empty_block
from cloud.engine import Engine
from cloud.session import Session
from cloud.tree import DraftTree
from cluster.figures import Case, Figures

_SHAPE = Shape(K=4, L=6, S=64)
LIMITS = {"demo": 1.5, "random": 1.1}  # of blocks
_TOKEN_BUDGET = 1024  # so that 32 blocks are one step
_NUM_PAGES = 1024
_MOST_TOKENS = 800  # of a text: more than any run here emits
_TEXT_TOKENS = {"demo": 80, "random": 24}  # before the first block, prompt included: reading them is most of a large model's time here


def measure(figures: Figures, *, quick: bool, advance: Callable[[], None]) -> None:
    """`step_overhead`, of pairs, and the two times behind it, `step_ms` and `forward_ms`."""
    for model, batch, num_pairs in _cases(quick=quick):
        served = model()
        with served.threads(), _sessions(served, batch) as (engine, sessions):
            systems = {"blocks": _drafter(served, sessions), "plain": _nothing}
            lap(engine, sessions, _nothing(sessions), 0)  # reads the texts
            for name, blocks_of in systems.items():
                case: Case = {"system": name, "model": served.name, "parameters": served.num_parameters, "dtype": served.dtype}
                case |= {
                    "batch": batch,
                    "cores": served.num_threads,
                    **({"K": _SHAPE.K, "L": _SHAPE.L, "S": _SHAPE.S} if name == "blocks" else {}),
                }
                pairs = list(_pairs(served, engine, sessions, blocks_of, num_pairs))
                add_median(figures, case, "tokens_per_step", [num_tokens for _, _, num_tokens in pairs], "tokens")
                add_median(figures, case, "step_ms", [1e3 * step_s for step_s, _, _ in pairs], "ms")
                add_median(figures, case, "forward_ms", [1e3 * forward_s for _, forward_s, _ in pairs], "ms")
                add_median(figures, case, "step_overhead", [step_s / forward_s for step_s, forward_s, _ in pairs], "times")
                advance()


def num_units(*, quick: bool) -> int:
    return 2 * len(_cases(quick=quick))


def _cases(*, quick: bool) -> list[tuple[Callable[[], Served], int, int]]:
    """Models, sessions in a step, pairs of a step and a forward."""
    if quick:
        return [(demo, 8, 8), (demo, 32, 4), (partial(large, torch.float32), 4, 2)]
    of_large = [(partial(large, dtype), batch, count) for dtype in (torch.float32, torch.bfloat16) for batch, count in ((8, 12), (32, 6))]
    return [(demo, 8, 60), (demo, 32, 40), *of_large]


@contextmanager
def _sessions(served: Served, batch: int) -> Iterator[tuple[Engine, list[Session]]]:
    """Sessions amid their texts, which the demo target wrote."""
    with running_engine(served.target, _NUM_PAGES, token_budget=_TOKEN_BUDGET) as engine:
        requests = [served.request(text, _MOST_TOKENS, seed=seed) for seed, text in enumerate(_texts(batch, _TEXT_TOKENS[served.name]))]
        with opened(engine, requests) as sessions:
            yield engine, sessions


def _texts(count: int, num_tokens: int) -> list[list[int]]:
    with demo().threads(), running_engine(demo().target, _NUM_PAGES) as engine:
        requests = [demo().request(prompt, num_tokens - len(prompt), seed=seed) for seed, prompt in enumerate(prompts(0, count))]
        with opened(engine, requests) as sessions:
            decoded(engine, sessions)
            return [session.text for session in sessions]


def _drafter(served: Served, sessions: Sequence[Session]) -> Callable[[Sequence[Session]], list[Block]]:
    """Blocks of the demo draft: after what stands or, where the target is another, the same ones again after whatever came."""
    if served is demo():
        return partial(drafts, shape=_SHAPE)
    blocks = drafts(sessions, _SHAPE)
    return lambda sessions: [replace(block, base=len(session.text)) for block, session in zip(blocks, sessions, strict=True)]


def _nothing(sessions: Sequence[Session]) -> list[Block]:
    return [empty_block(len(session.text)) for session in sessions]


def _pairs(
    served: Served, engine: Engine, sessions: list[Session], blocks_of: Callable[[Sequence[Session]], list[Block]], count: int
) -> Iterator[tuple[float, float, int]]:
    """The seconds of a step and of a forward on as many tokens, and how many these are; each goes first every other time."""
    first_round = sessions[0].last.round + 1 if sessions[0].last else 0
    for number in range(first_round, first_round + 1 + count):
        blocks = blocks_of(sessions)
        num_tokens = sum(1 + len(DraftTree.of(block).tokens) for block in blocks)
        forward_s = _forward_s(served, engine, num_tokens) if number % 2 else 0.0
        taken = lap(engine, sessions, blocks, number)
        forward_s = forward_s or _forward_s(served, engine, num_tokens)
        if number > first_round:  # the first warms both up
            yield taken.wall_s, forward_s, num_tokens


def _forward_s(served: Served, engine: Engine, num_tokens: int) -> float:
    def timed() -> float:
        started = time.perf_counter()
        served.bare_forward(num_tokens)
        return time.perf_counter() - started

    return between_steps(engine, timed)
