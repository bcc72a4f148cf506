"""Claim: where clients draft for themselves, a second of the verifier's brings more tokens than plain decoding of as many clients at
once: 1.3 times at 8 clients of the demo pair, whose small target a core reads no faster than it computes, and 2 times at 4
clients of 470M parameters.

Only the time that the verifier spends in steps counts; the clients draft while it is idle. The shape of a block is chosen from a
grid on other prompts. The large target has random weights, so its clients' drafts are rounds of the demo pair, recorded and
replayed: how many tokens stand is drawn from what the demo pair was measured to accept, marked `"acceptance": "synthetic"`, and
all else is done as ever. It is tried in both types, with short prompts and with long ones: a step reads a session's keys and values
once, however many of its tokens it reads. Both systems take turns on the same requests, prompts read included (long ones are known by
content from the turn before), all clients in every step.
Refuted by: a `speedup_vs_plain` below 1.3 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from statistics import fmean, median

import numpy as np
import torch

from benchmarks.edge_clients import Shape, drafts, prompts
from benchmarks.lockstep import decoded, lap, opened, running_engine
from benchmarks.medians import add_median
from benchmarks.replayed import Round, replayed
from benchmarks.targets import Served, demo, large
from cactus_core.block import Block
from cactus_core.session import Request
from cloud.engine import Engine
from cloud.session import Session
from cluster.figures import Case, Figures

LIMITS = {"demo": 1.3, "random": 2.0}
_TYPES = (torch.float32, torch.bfloat16)  # of the large target
_NUM_TOKENS = 48  # of each client in a turn
_CLIENTS = {"demo": 8, "random": 4}
_NUM_PAGES, _NUM_PAGES_FOR_LONG = 256, 600
_LONG_TOKENS = 1000  # of a long prompt: a file that is being edited, a page or two that are asked about
_SHAPES = tuple(Shape(k, length, 64) for k, length in ((1, 2), (1, 3), (1, 4), (1, 6), (1, 8), (2, 3), (2, 5), (4, 4))) + tuple(
    Shape(k, length, 512) for k, length in ((1, 4), (1, 6), (2, 5))
)
_QUICK_SHAPES = (Shape(1, 5, 64),)
_TRIAL_ROUNDS = 4
_KNOWN_TURNS = 3  # how many times as long as a turn's tokens a text is that rounds are replayed along: some clients run ahead
_ROOM = 400  # tokens that a client may be sent
_FIRST_OTHER = 20  # of the prompts that a shape is chosen on

BlocksOf = Callable[[Sequence[Session]], list[Block]]


@dataclass(frozen=True, slots=True)
class Work:
    """What some clients were sent, and what it took of the verifier: seconds a step, and of drafts each round's outcome."""

    num_tokens: int
    busy_s: float
    step_s: tuple[float, ...] = ()
    rounds: tuple[Round, ...] = ()

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.busy_s

    @property
    def tokens_per_round(self) -> float:
        return fmean(1 + recorded.num_accepted for recorded in self.rounds)


def measure(figures: Figures, *, quick: bool, advance: Callable[[], None]) -> None:
    """`speedup_vs_plain` of the best shape, what it brings a round, and `verifier_s_per_token` of both systems."""
    tried: dict[float, dict[Shape, Work]] = {}
    with demo().threads(), running_engine(demo().target, _NUM_PAGES) as engine:
        for temperature in _temperatures(quick=quick):
            found = tried[temperature] = _tried(engine, temperature, _QUICK_SHAPES if quick else _SHAPES, 16 if quick else 128)
            advance()
            best = max(found, key=lambda shape: found[shape].tokens_per_s)
            clients = _requests(demo(), prompts(0, _CLIENTS["demo"]), temperature)
            turns = _turns(engine, clients, partial(drafts, shape=best), num_tokens=24 if quick else 64, num_turns=3 if quick else 11)
            _report(figures, demo(), clients, best, *turns)
            advance()
    for dtype in () if quick else _TYPES:
        served = large(dtype)
        with served.threads(), running_engine(served.target, _NUM_PAGES_FOR_LONG) as engine:
            for asked in short_and_long(_CLIENTS[served.name]):
                replay_on(figures, served, engine, tried, asked, advance)


def short_and_long(num_clients: int) -> tuple[list[list[int]], list[list[int]]]:
    """A short prompt for each client, and a long one."""
    short = prompts(0, num_clients)
    return short, [[*islice(cycle(prompt), _LONG_TOKENS)] for prompt in short]


def num_units(*, quick: bool) -> int:
    return 2 if quick else (2 + 2 * len(_TYPES)) * len(_temperatures(quick=quick))


def _temperatures(*, quick: bool) -> tuple[float, ...]:
    return (1.0,) if quick else (1.0, 0.6)


def _requests(served: Served, asked: Sequence[list[int]], temperature: float) -> list[Request]:
    """With room for more tokens than any of them is sent."""
    return [served.request(prompt, _ROOM, temperature=temperature, seed=seed) for seed, prompt in enumerate(asked)]


def _tried(engine: Engine, temperature: float, shapes: Sequence[Shape], num_tokens: int) -> dict[Shape, Work]:
    """What each shape brings the demo pair, on other prompts."""
    clients = _requests(demo(), prompts(_FIRST_OTHER, _CLIENTS["demo"]), temperature)
    return {shape: speculated(engine, clients, partial(drafts, shape=shape), num_tokens) for shape in shapes}


def recorded(shapes: Sequence[Shape], num_tokens: int, *, quick: bool) -> dict[float, dict[Shape, Work]]:
    """For each temperature, the rounds that clients of the demo pair go through with blocks of each shape."""
    with demo().threads(), running_engine(demo().target, _NUM_PAGES) as engine:
        return {temperature: _tried(engine, temperature, shapes, num_tokens) for temperature in _temperatures(quick=quick)}


def replay_on(
    figures: Figures,
    served: Served,
    engine: Engine,
    tried: dict[float, dict[Shape, Work]],
    asked: Sequence[list[int]],
    advance: Callable[[], None],
    *,
    num_tokens: int = _NUM_TOKENS,
    num_turns: int = 6,
) -> None:
    """The same for another target and a prompt for each client, with rounds that the demo pair's clients went through."""
    texts = written(engine, _requests(served, asked, 1.0), _KNOWN_TURNS * num_tokens)  # the same at any temperature
    for temperature, found in tried.items():
        clients = _requests(served, asked, temperature)
        replays = {shape: Replay(served, texts, work.rounds) for shape, work in found.items()}
        pace = {}
        for shape, work in found.items():
            trial = speculated(engine, clients, replays[shape], _TRIAL_ROUNDS * work.tokens_per_round)
            pace[shape] = work.tokens_per_round / median(trial.step_s[1:])  # the first reads the prompts
        best = max(pace, key=lambda shape: pace[shape])
        _report(figures, served, clients, best, *_turns(engine, clients, replays[best], num_tokens=num_tokens, num_turns=num_turns))
        advance()


def _turns(
    engine: Engine, clients: Sequence[Request], blocks_of: BlocksOf, *, num_tokens: int, num_turns: int
) -> tuple[list[Work], list[Work]]:
    """With drafts and without, in turn; each goes first every other time."""
    drafted: list[Work] = []
    plain: list[Work] = []
    for number in range(num_turns):
        if number % 2:
            drafted.append(speculated(engine, clients, blocks_of, num_tokens))
        plain.append(decoded_alone(engine, clients, num_tokens))
        if not number % 2:
            drafted.append(speculated(engine, clients, blocks_of, num_tokens))
    return drafted, plain


def _report(figures: Figures, served: Served, clients: Sequence[Request], shape: Shape, drafted: list[Work], plain: list[Work]) -> None:
    case: Case = {"clients": len(clients), "model": served.name, "parameters": served.num_parameters, "dtype": served.dtype}
    case |= {
        "cores": served.num_threads,
        "pair": "demo",
        "prompt_tokens": round(fmean(len(client.prompt) for client in clients)),
        "temperature": clients[0].sampling.temperature,
        "acceptance": "real" if served is demo() else "synthetic",
    }
    ours = case | {"system": "cactus", "rule": clients[0].acceptance.rule, "K": shape.K, "L": shape.L, "S": shape.S}
    add_median(figures, ours, "tokens_per_round", [work.tokens_per_round for work in drafted], "tokens")
    add_median(figures, ours, "verifier_s_per_token", [1 / work.tokens_per_s for work in drafted], "s")
    add_median(figures, case | {"system": "plain"}, "verifier_s_per_token", [1 / work.tokens_per_s for work in plain], "s")
    ratios = [work.tokens_per_s / alone.tokens_per_s for work, alone in zip(drafted, plain, strict=True)]
    add_median(figures, ours, "speedup_vs_plain", ratios, "times")


def speculated(engine: Engine, clients: Sequence[Request], blocks_of: BlocksOf, num_tokens: float) -> Work:
    """Rounds of all clients until they have `num_tokens` each, on average."""
    num_emitted = 0
    step_s: list[float] = []
    rounds: list[Round] = []
    with opened(engine, clients) as sessions:
        while num_emitted < num_tokens * len(clients):
            blocks = blocks_of(sessions)
            taken = lap(engine, sessions, blocks, len(step_s))
            num_emitted += taken.figures.num_emitted
            step_s.append(taken.figures.busy_s)
            rounds += [Round(block, decision.row, decision.num_accepted) for block, decision in zip(blocks, taken.decisions, strict=True)]
    return Work(num_emitted, sum(step_s), tuple(step_s), tuple(rounds))


def decoded_alone(engine: Engine, clients: Sequence[Request], num_tokens: int) -> Work:
    """Plain decoding of `num_tokens` for each client, all in each step."""
    with opened(engine, [replace(client, max_tokens=num_tokens) for client in clients]) as sessions:
        _, figures = decoded(engine, sessions)
    return Work(figures.num_emitted, figures.busy_s)


def written(engine: Engine, clients: Sequence[Request], num_tokens: int) -> list[list[int]]:
    """Each client's prompt and what the target writes after it."""
    with opened(engine, [replace(client, max_tokens=num_tokens) for client in clients]) as sessions:
        decoded(engine, sessions)
        return [session.text for session in sessions]


class Replay:
    """Blocks that stand as recorded rounds did, each drawn from all of them, along texts that are known."""

    def __init__(self, served: Served, texts: Sequence[Sequence[int]], rounds: Sequence[Round]) -> None:
        self._vocab_size, self._texts, self._rounds = served.target.vocab_size, texts, rounds
        self._rng = np.random.default_rng(0)

    def __call__(self, sessions: Sequence[Session]) -> list[Block]:
        return [self._next(session, text) for session, text in zip(sessions, self._texts, strict=True)]

    def _next(self, session: Session, text: Sequence[int]) -> Block:
        drawn = self._rounds[int(self._rng.integers(len(self._rounds)))]
        following = text[len(session.text) :][: drawn.block.length + 1]
        return replayed(drawn, len(session.text), following, self._vocab_size, self._rng)
