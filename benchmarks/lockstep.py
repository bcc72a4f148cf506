"""Sessions of one engine in lockstep, so that a benchmark knows what is in a step.

An engine takes what waits as soon as anything does: what is sent one after the other ends up in steps of chance size. What
is sent from the engine's own thread, between two steps, goes into the next one together.
Knows engines and sessions; knows nothing of what the sessions' texts are, or of who drafted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from cactus_core.block import Block
from cactus_core.session import Decision, Request
from cloud.engine import Engine
from cloud.loop import EngineFigures
from cloud.own_thread import in_own_thread
from cloud.session import Session
from cloud.target import TargetModel

PATIENCE_S = 300.0  # an engine that does not answer for so long never will

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lap:
    """One decision for each session. `wall_s` is from the last one's queueing to the last decision: planning, forward, deciding."""

    decisions: tuple[Decision, ...]
    wall_s: float
    figures: EngineFigures


@contextmanager
def running_engine(target: TargetModel, num_pages: int, *, token_budget: int = 512) -> Iterator[Engine]:
    # Nothing large waits beside small work in a lockstep, so what a step costs anyway need not be measured. As in a server, whoever makes
    # an engine computes nothing beside it.
    engine = in_own_thread(lambda: Engine(target, num_pages=num_pages, token_budget=token_budget, num_free_tokens=0.0))
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


@contextmanager
def opened(engine: Engine, requests: Sequence[Request]) -> Iterator[list[Session]]:
    sessions = [engine.open(request) for request in requests]
    try:
        yield sessions
    finally:
        for session in sessions:
            engine.close(session)


def between_steps(engine: Engine, call: Callable[[], T]) -> T:
    """What `call` returns or raises, run in the engine's thread after a step: what it sends goes into the next step together."""
    with _called_between_steps(engine, call) as result:
        return result.result(PATIENCE_S)


@contextmanager
def _called_between_steps(engine: Engine, call: Callable[[], T]) -> Iterator[Future[T]]:
    result: Future[T] = Future()

    def run(_: Decision) -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            result.set_exception(error)

    gate = engine.open(Request((0,), max_tokens=1, seed=0, fingerprint=engine.served.fingerprint))
    try:
        engine.stream(gate, run)
        yield result
    finally:
        engine.close(gate)


def lap(engine: Engine, sessions: Sequence[Session], blocks: Sequence[Block], number: int) -> Lap:
    """Round `number` of all the sessions, read and decided together. Whoever calls sleeps until the last decision: a thread that
    woke between would take the interpreter's lock from the step.
    """
    before = engine.figures
    result: Future[tuple[float, EngineFigures]] = Future()
    left = len(blocks)
    started = 0.0

    def note(_: Future[Decision]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            result.set_result((time.perf_counter() - started, engine.figures))

    def send() -> list[Future[Decision]]:
        nonlocal before, started
        before = engine.figures
        answers = [engine.submit(session, number, block) for session, block in zip(sessions, blocks, strict=True)]
        started = time.perf_counter()
        for answer in answers:
            answer.add_done_callback(note)
        return answers

    def refused(sent: Future[list[Future[Decision]]]) -> None:
        if (error := sent.exception()) is not None:
            result.set_exception(error)

    with _called_between_steps(engine, send) as answers:
        answers.add_done_callback(refused)
        wall_s, after = result.result(PATIENCE_S)
        return Lap(tuple(answer.result(0) for answer in answers.result(0)), wall_s, spent(before, after))


def decoded(engine: Engine, sessions: Sequence[Session]) -> tuple[float, EngineFigures]:
    """Plain decoding of all the sessions to their ends, begun together: the wall time, and what the engine spent."""
    before, started = engine.figures, 0.0

    def start() -> list[Future[None]]:
        nonlocal before, started
        before, started = engine.figures, time.perf_counter()
        return [engine.stream(session, lambda _: None) for session in sessions]

    for end in between_steps(engine, start):
        end.result(PATIENCE_S)
    return time.perf_counter() - started, spent(before, engine.figures)


def spent(before: EngineFigures, after: EngineFigures) -> EngineFigures:
    """What happened between two readings of an engine's sums."""
    return EngineFigures(
        after.num_steps - before.num_steps,
        after.busy_s - before.busy_s,
        after.num_read - before.num_read,
        after.num_emitted - before.num_emitted,
    )
