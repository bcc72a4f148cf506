"""Claim: a client that sends the largest legal blocks as fast as it can raises the 95th percentile of another's time per token by
at most 1.5 times.

Verifier, hog and victim are processes of their own on this machine, over gRPC. The victim decodes plainly or sends blocks
(K = 4, L = 6); it is timed from one decision to the next, over the tokens that this brought, and its first
token, which waits for a prompt, is left out. Runs without the hog and with it take turns on the same request. An edge's cores are
not the verifier's, so that the victim's blocks are drafted once, in a run that does not count, and then only take their time
again (emulated); what the verifier does for them is the same.
Refuted by: a `slowdown_p95` above 1.5 of a hog that sends block after block. One client with four such streams is reported beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

import numpy as np

from benchmarks.edge_clients import Shape, prompts
from benchmarks.edge_clients import drafter as edge_drafter
from benchmarks.hog import Hog, hog
from benchmarks.medians import add_median
from benchmarks.remembered import RememberedDrafter
from benchmarks.targets import demo
from benchmarks.verifier_process import verifier_process
from cactus_core.session import Request
from cluster.figures import Case, Figures
from edge.link import Endpoint
from edge.speculate import decode_alone, speculate
from edge.tuning.plan import RowsPlan

LIMIT = 1.5
_SHAPE = Shape(K=4, L=6, S=64)
_VICTIMS = ("plain", "blocks")
_RESAMPLES = 1000


def measure(figures: Figures, *, quick: bool, advance: Callable[[], None]) -> None:
    """`time_per_token_ms_p50` and `_p95` of the victim alone and beside the hog, and `slowdown_p95`, over all runs together."""
    with verifier_process(demo().num_threads) as address:
        for num_streams in _streams(quick=quick):
            with hog(address, num_streams) as neighbour:
                for victim in _VICTIMS:
                    asyncio.run(_pairs(figures, address, neighbour, num_streams, victim, quick=quick))
                    advance()


def num_units(*, quick: bool) -> int:
    return len(_streams(quick=quick)) * len(_VICTIMS)


def _streams(*, quick: bool) -> tuple[int, ...]:
    return (1,) if quick else (1, 4)


async def _pairs(figures: Figures, address: str, neighbour: Hog, num_streams: int, victim: str, *, quick: bool) -> None:
    num_tokens, num_pairs = (60, 2) if quick else (200, 9)
    times: dict[bool, list[np.ndarray]] = {False: [], True: []}
    num_blocks = 0
    async with Endpoint(address) as endpoint:
        drafter = RememberedDrafter(edge_drafter(0, _SHAPE.S))
        await _times(endpoint, drafter, victim, num_tokens)  # drafts, and warms up
        for number in range(num_pairs):
            for beside in (False, True) if number % 2 else (True, False):
                with neighbour.at_work() if beside else nullcontext():
                    times[beside].append(await _times(endpoint, drafter, victim, num_tokens))
                num_blocks += neighbour.num_decided if beside else 0
    case: Case = {"system": victim, "pair": "demo", "cores": demo().num_threads, "clients": 2}
    case |= {"K": _SHAPE.K, "L": _SHAPE.L, "S": _SHAPE.S, "emulated": True} if victim == "blocks" else {}
    for beside, runs in times.items():
        where = case | {"hog_streams": num_streams if beside else 0, "against": num_streams}
        for at in (50, 95):
            add_median(figures, where, f"time_per_token_ms_p{at}", [1e3 * float(np.percentile(run, at)) for run in runs], "ms")
    low, high = np.percentile([_slowdown(times, drawn) for drawn in _resampled(num_pairs)], [2.5, 97.5])
    slowed = case | {"hog_streams": num_streams, "repeats": num_pairs}
    figures.add(slowed, "slowdown_p95", _slowdown(times, range(num_pairs)), "times", low=float(low), high=float(high))
    figures.add(case | {"hog_streams": num_streams}, "hog_blocks_per_run", num_blocks / num_pairs, "blocks")


def _slowdown(times: dict[bool, list[np.ndarray]], runs: Iterable[int]) -> float:
    """Over all tokens of the `runs` together: of one run's forty decisions the two slowest would say it all."""
    alone, beside = (np.percentile(np.concatenate([times[is_beside][run] for run in runs]), 95) for is_beside in (False, True))
    return float(beside / alone)


def _resampled(num_runs: int) -> Iterator[np.ndarray]:
    """Runs drawn from the runs, with replacement: how far the figure may be off is how far it moves between such draws (bootstrap)."""
    rng = np.random.default_rng(0)
    return (rng.integers(num_runs, size=num_runs) for _ in range(_RESAMPLES))


def _refuse(error: Exception) -> None:
    raise error


async def _times(endpoint: Endpoint, drafter: RememberedDrafter, victim: str, num_tokens: int) -> np.ndarray:
    """Seconds per token of one request, for each of its tokens after the first decision's."""
    [prompt] = prompts(0, 1)
    request = Request(tuple(prompt), num_tokens, seed=0, fingerprint=demo().target.fingerprint, decode_alone=victim == "plain")
    seconds: list[float] = []
    async with endpoint.open(request) as link:
        rounds = (
            decode_alone(link, request)
            if victim == "plain"
            else speculate(link, request, drafter, lambda: RowsPlan(_SHAPE.K, _SHAPE.L), _refuse)
        )
        last = 0.0
        async for done in rounds:
            now = time.perf_counter()
            seconds += [(now - last) / len(done.tokens)] * len(done.tokens) if last else []
            last = now
    return np.array(seconds)
