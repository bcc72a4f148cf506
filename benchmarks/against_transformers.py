"""Claim: a verifier serves 16 requests at 3 times the pace of `generate` one by one, and no slower than `generate` on them all as
one batch; and speculation beside it is 1.5 times as fast a request as `generate` with an assistant.

The same weights, prompts and number of new tokens on both sides, at temperature 1 and greedy, one core each; no text ends early.
`generate` runs with its own cache and attention (`sdpa`), as it comes. Assisted, it is run with its assistant's settings as
they come and with the best constant number of assistant tokens, and the faster is what we are compared with; our drafts, blocks of
paths or coupled trees, are chosen from a grid like that number, both on other prompts. All take turns, request by request where
there is one at a time.
Refuted by: a `speedup_vs_naive` below 3, 1 and 1.5.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

from benchmarks.edge_clients import Shape, drafter, drafts, prompts
from benchmarks.generate import generate, generate_assisted
from benchmarks.lockstep import PATIENCE_S, opened, running_engine
from benchmarks.medians import add_median
from benchmarks.targets import demo
from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED
from cactus_core.session import Decision, Hint
from cloud.engine import Engine
from cluster.figures import Case, Figures

_NUM_REQUESTS = 16
_NUM_PAGES = 512
_SHAPES = tuple(Shape(k, length, 64) for k, length in ((1, 3), (1, 5), (1, 8), (2, 4), (4, 4), (4, 6)))
_TREE_SUPPORT = 64  # of laws, which trees do without
_TREES = (4, 8, 12, 16, 24)  # nodes
_CONSTANTS = (2, 3, 5, 8)
_FIRST_OTHER = 20  # of the prompts that settings are chosen on


Run = Callable[[list[int]], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Contender:
    """`seconds` are those of each of its turns."""

    system: str
    seconds: list[float] = field(default_factory=list)


def measure(figures: Figures, *, quick: bool, advance: Callable[[], None]) -> None:
    """`tokens_per_s` of each system, and `speedup_vs_naive` of ours against each of theirs, turn by turn."""
    with demo().threads(), running_engine(demo().target, _NUM_PAGES) as engine:
        for temperature in _temperatures(quick=quick):
            _batches(figures, engine, temperature, quick=quick)
            advance()
            _single(figures, engine, temperature, quick=quick)
            advance()


def num_units(*, quick: bool) -> int:
    return 2 * len(_temperatures(quick=quick))


def _temperatures(*, quick: bool) -> tuple[float, ...]:
    return (1.0,) if quick else (1.0, 0.0)


def _batches(figures: Figures, engine: Engine, temperature: float, *, quick: bool) -> None:
    """Many requests at once, without drafts."""
    num_tokens, num_turns = (12, 2) if quick else (64, 6)
    asked = prompts(0, _NUM_REQUESTS)
    runs: dict[str, Callable[[], None]] = {
        "cactus": partial(_decode, engine, asked, num_tokens, temperature),
        "generate, one by one": partial(_one_by_one, asked, num_tokens, temperature),
        "generate, one batch": partial(generate, asked, num_tokens, temperature),
    }
    for run in runs.values():
        run()  # to warm up
    contenders = [_Contender(system) for system in runs]
    for _ in range(num_turns):
        _take_turns(contenders, [*runs.values()])
    case: Case = {"drafter": "none", "requests": _NUM_REQUESTS}
    _report(figures, contenders, num_tokens * len(asked), case | {"temperature": temperature})


def _single(figures: Figures, engine: Engine, temperature: float, *, quick: bool) -> None:
    """One request at a time, with drafts."""
    num_tokens, num_requests = (24, 3) if quick else (64, 12)
    shapes: dict[Shape | int, Run] = {
        shape: partial(_speculate, engine, num_tokens, temperature, shape) for shape in (_SHAPES[1:3] if quick else _SHAPES)
    }
    trees = _TREES[1:3] if quick else _TREES
    shapes |= {num_nodes: partial(_speculate_along, engine, num_tokens, temperature, num_nodes) for num_nodes in trees}
    constants = {n: partial(_assist, num_tokens, temperature, n) for n in (_CONSTANTS[1:3] if quick else _CONSTANTS)}
    others = prompts(_FIRST_OTHER, 2 if quick else 6)
    shape, constant = _fastest(shapes, others), _fastest(constants, others)
    runs: dict[str, Run] = {
        "cactus": shapes[shape],
        "assisted, as it comes": partial(_assist, num_tokens, temperature, None),
        f"assisted, {constant} tokens": constants[constant],
    }
    contenders = [_Contender(system) for system in runs]
    for prompt in prompts(0, num_requests):
        _take_turns(contenders, [partial(run, prompt) for run in runs.values()])
    case: Case = {"drafter": "demo", "requests": 1}
    case |= {"nodes": shape} if isinstance(shape, int) else {"K": shape.K, "L": shape.L, "S": shape.S}
    _report(figures, contenders, num_tokens, case | {"temperature": temperature})


def _fastest(runs: Mapping[T, Run], asked: list[list[int]]) -> T:
    """The setting whose run takes the least time, prompt by prompt after one to warm up."""
    contenders = {setting: _Contender(str(setting)) for setting in runs}
    for prompt in asked:
        _take_turns([*contenders.values()], [partial(run, prompt) for run in runs.values()])
    return min(contenders, key=lambda setting: sum(contenders[setting].seconds[1:]))


def _take_turns(contenders: Sequence[_Contender], runs: Sequence[Callable[[], None]]) -> None:
    """One turn each."""
    turns = [*zip(contenders, runs, strict=True)]
    first = len(contenders[0].seconds) % len(turns)  # nobody always runs after the same one
    for contender, run in turns[first:] + turns[:first]:
        started = time.perf_counter()
        run()
        contender.seconds.append(time.perf_counter() - started)


def _report(figures: Figures, contenders: Sequence[_Contender], num_tokens: int, case: Case) -> None:
    ours, *others = contenders
    case = {"pair": "demo", "cores": demo().num_threads, "tokens": num_tokens, **case}
    for contender in contenders:
        paces = [num_tokens / seconds for seconds in contender.seconds]
        add_median(figures, case | {"system": contender.system}, "tokens_per_s", paces, "tokens/s")
    for other in others:
        ratios = [theirs / own for own, theirs in zip(ours.seconds, other.seconds, strict=True)]
        add_median(figures, case | {"system": "cactus", "against": other.system}, "speedup_vs_naive", ratios, "times")


def _decode(engine: Engine, asked: list[list[int]], num_tokens: int, temperature: float) -> None:
    requests = [demo().request(prompt, num_tokens, temperature=temperature, seed=seed) for seed, prompt in enumerate(asked)]
    with opened(engine, requests) as sessions:
        for end in [engine.stream(session, lambda _: None) for session in sessions]:
            end.result(PATIENCE_S)


def _one_by_one(asked: list[list[int]], num_tokens: int, temperature: float) -> None:
    for prompt in asked:
        generate([prompt], num_tokens, temperature)


def _speculate(engine: Engine, num_tokens: int, temperature: float, shape: Shape, prompt: list[int]) -> None:
    with opened(engine, [demo().request(prompt, num_tokens, temperature=temperature)]) as sessions:
        number = 0
        while not sessions[0].is_complete:
            engine.submit(sessions[0], number, drafts(sessions, shape)[0]).result(PATIENCE_S)
            number += 1


def _speculate_along(engine: Engine, num_tokens: int, temperature: float, num_nodes: int, prompt: list[int]) -> None:
    """As `_speculate`, with coupled trees, each waited for."""
    request = replace(demo().request(prompt, num_tokens, temperature=temperature), acceptance=Acceptance(COUPLED))
    decisions: SimpleQueue[Decision] = SimpleQueue()
    with opened(engine, [request]) as [session]:
        engine.stream(session, decisions.put)
        number, emitted = 0, 0
        while emitted < num_tokens:
            number += 1
            tree = drafter(0, _TREE_SUPPORT).draft_tree(
                session.text,
                num_nodes=num_nodes,
                max_depth=min(engine.served.limits.max_length, num_tokens - emitted - 1),
                params=request.sampling,
                seed=request.seed,
            )
            engine.hint(session, Hint(number, tree))
            emitted += decisions.get(timeout=PATIENCE_S).num_emitted


def _assist(num_tokens: int, temperature: float, num_assistant_tokens: int | None, prompt: list[int]) -> None:
    generate_assisted(prompt, num_tokens, temperature, num_assistant_tokens)
