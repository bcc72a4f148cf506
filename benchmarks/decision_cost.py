"""Claim: deciding 64 blocks of 4 paths of 8 tokens takes `nearest+block` 6 ms on one core, at least 20 times less than a dense verifier.

Against: every other rule on the same drafts, and two dense programs for as many paths of as many tokens over a vocabulary of
151,936 (`benchmarks/dense.py`), each run between the others' runs. All of it is computed on one core. The laws a decision needs
are given to both sides ready made: what gathering them from logits takes is part of the verifier's step, not of this.
Refuted by: a `decision_ms` of `nearest+block` above 6 on an idle machine, or a `speedup_vs_dense` below 20.

`decision_ms` is the median over repeats; its `low` is the least of them, which a busy machine spoils the least, and `high` the upper
quartile. A dense program works through `chunks` of the batch in turn; where it runs fewer than all, its time is scaled up to all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from benchmarks.dense import VOCABULARY, DenseRows, as_transformers, as_vllm
from benchmarks.drafts import softmax
from cactus_core.acceptance import Acceptance
from cactus_core.coins import SeededCoins
from cactus_core.paths import DraftedPaths
from cactus_core.rules import DEFAULT_RULE, RULES
from cluster.figures import Case, Figures

_K, _L, _S, _BATCH = 4, 8, 64, 64
_WIDE = 1024
_CORES = 1
_SESSIONS_A_CHUNK = 4
_NUM_CHUNKS = _BATCH // _SESSIONS_A_CHUNK
_DENSE = {"dense (vLLM)": as_vllm, "dense (transformers)": as_transformers}
# Of synthetic logits, by the size of the support: an overlap of about 0.7 and an entropy of about 2 nats.
_SHARPNESS, _DISAGREEMENT = {_S: 2.5, _WIDE: 3.5}, 0.95
_OFF_SUPPORT = 0.03  # of the target's mass, on average


@dataclass(slots=True)
class _Contestant:
    """`run(repeat)` is timed `laps` times a round; `scale` makes a part's time the whole's."""

    case: Case
    run: Callable[[int], object]
    laps: int
    scale: float = 1.0
    rounds: list[list[float]] = field(default_factory=list)  # of seconds

    def run_round(self, number: int) -> None:
        self.run(number)  # to warm up: the caches were another's
        seconds = []
        for lap in range(self.laps):
            start = perf_counter()
            self.run(number * self.laps + lap)
            seconds.append((perf_counter() - start) * self.scale)
        self.rounds.append(seconds)


def measure(figures: Figures, *, quick: bool, advance: Callable[[], None]) -> None:
    """`decision_ms` of rules, by batch and by support, and of dense programs; `speedup_vs_dense` of the default rule, round by round."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(_CORES)
    try:
        ours, dense = _deciders(quick=quick), _dense(quick=quick)
        contestants = [*ours, *dense]
        for number in range(_num_rounds(quick=quick)):
            first = number * len(contestants) // _num_rounds(quick=quick)  # nobody always runs after the same one
            for contestant in contestants[first:] + contestants[:first]:
                contestant.run_round(number)
                advance()
    finally:
        torch.set_num_threads(num_threads)
    for contestant in contestants:
        seconds = np.concatenate(contestant.rounds)
        low, median, high = (1e3 * float(np.percentile(seconds, at)) for at in (0, 50, 75))
        figures.add(contestant.case, "decision_ms", median, "ms", low=low, high=high)
    default = ours[0]
    for reference in dense:
        pairs = zip(reference.rounds, default.rounds, strict=True)
        ratios = [float(np.median(theirs) / np.median(own)) for theirs, own in pairs]
        low, median, high = (float(np.percentile(ratios, at)) for at in (25, 50, 75))
        case = {**default.case, "against": reference.case["rule"], "chunks": reference.case["chunks"]}
        figures.add(case, "speedup_vs_dense", median, "times", low=low, high=high)


def num_units(quick: bool) -> int:  # noqa: FBT001  # the one argument, and named for what it says
    return _num_rounds(quick=quick) * (len(_acceptances()) + len(_DENSE))


def _num_rounds(*, quick: bool) -> int:
    return 5 if quick else 12


def _acceptances() -> list[tuple[Acceptance, int, int]]:
    """What is timed, with the batch and the size of the support; the default rule as it is comes first."""
    plain, certified = Acceptance(DEFAULT_RULE), Acceptance(DEFAULT_RULE, "certified", 0.05)
    others = [(Acceptance(name), _BATCH, _S) for name in RULES if name != DEFAULT_RULE]
    by_batch = [(plain, batch, _S) for batch in (1, 8)]
    return [(plain, _BATCH, _S), (certified, _BATCH, _S), *others, *by_batch, (plain, _BATCH, _WIDE)]


def _deciders(*, quick: bool) -> list[_Contestant]:
    paths = {size: random_paths(np.random.default_rng(size), _BATCH, size) for size in (_S, _WIDE)}
    contestants = []
    for acceptance, batch, size in _acceptances():
        case: Case = {
            "rule": acceptance.rule,
            "label": str(acceptance.label),
            "relaxation": acceptance.relaxation,
            "strength": acceptance.strength,
            "batch": batch,
            "K": _K,
            "L": _L,
            "S": size,
            "cores": _CORES,
        }
        contestants.append(_Contestant(case, _decision(acceptance, paths[size].of(np.arange(batch))), laps=5))
    return contestants


def _decision(acceptance: Acceptance, paths: DraftedPaths) -> Callable[[int], object]:
    decide, num_sessions = acceptance.decider(), paths.num_sessions
    seeds, left = np.arange(num_sessions), np.full(num_sessions, np.inf)
    # Each repeat throws other coins; the same for all rules.
    return lambda repeat: decide(paths, SeededCoins(seeds, np.full(num_sessions, repeat * (_L + 1))), left)


def _dense(*, quick: bool) -> list[_Contestant]:
    num_chunks = 1 if quick else _NUM_CHUNKS
    rows, generator = DenseRows.random(_SESSIONS_A_CHUNK * _K, _L, seed=0), torch.Generator().manual_seed(1)
    contestants = []
    for name, program in _DENSE.items():
        case: Case = {
            "rule": name,
            "label": "exact",
            "batch": _BATCH,
            "K": _K,
            "L": _L,
            "V": VOCABULARY,
            "cores": _CORES,
            "chunks": num_chunks,
        }
        run = _chunks(program, rows, generator, num_chunks)
        contestants.append(_Contestant(case, run, laps=1, scale=_NUM_CHUNKS / num_chunks))
    return contestants


def _chunks(
    program: Callable[[DenseRows, torch.Generator], Tensor], rows: DenseRows, generator: torch.Generator, num_chunks: int
) -> Callable[[int], object]:
    """The same tensors serve for every chunk, so that making them takes no time and little room."""
    return lambda repeat: [program(rows, generator) for _ in range(num_chunks)]


def random_paths(rng: np.random.Generator, num_sessions: int, support_size: int) -> DraftedPaths:
    """Blocks whose paths are drawn from a tree of random laws, one for each prefix that any of them has."""
    proposed, law_of = np.zeros((2, num_sessions, _K, _L), dtype=np.int64)
    draft_probs, target_probs = np.zeros((2, num_sessions, _K * _L, support_size))
    target_off = np.zeros((num_sessions, _K * _L))
    for session in range(num_sessions):
        laws: dict[tuple[int, ...], int] = {}
        for row, depth in np.ndindex(_K, _L):
            prefix = tuple(proposed[session, row, :depth].tolist())
            if prefix not in laws:
                law = laws[prefix] = len(laws)
                logits = rng.normal(0.0, _SHARPNESS[support_size], support_size)
                off = rng.beta(1.0, 1.0 / _OFF_SUPPORT - 1.0)
                draft_probs[session, law] = softmax(logits + rng.normal(0.0, _DISAGREEMENT, support_size))
                target_probs[session, law] = (1.0 - off) * softmax(logits)
                target_off[session, law] = off
            law_of[session, row, depth] = laws[prefix]
            proposed[session, row, depth] = rng.choice(support_size, p=draft_probs[session, laws[prefix]])
    num_laws = int(law_of.max()) + 1
    return DraftedPaths(
        proposed=proposed,
        law_of=law_of,
        draft_probs=draft_probs[:, :num_laws].copy(),
        target_probs=target_probs[:, :num_laws].copy(),
        target_off=target_off[:, :num_laws].copy(),
        num_rows=np.full(num_sessions, _K),
        lengths=np.full(num_sessions, _L),
    )
