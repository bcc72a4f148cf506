"""The step loop: takes whatever is waiting, runs one packed forward, decides for all of it at once.

Runs in a thread of its own; `open`, `submit`, `decode` and `close` may be called from any thread and never wait for the
model. A session's error ends that session alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from cactus_core.acceptance import STRENGTH_OF
from cactus_core.block import empty_block
from cactus_core.coupled import CoupledTree, empty_tree
from cactus_core.errors import CactusError, InvalidInput, LimitExceeded, Mismatch, StaleBase, Unavailable
from cactus_core.rules import LABELS
from cactus_core.session import Decision, Limits, Request, Served
from cloud.ballot import Outcome
from cloud.pages import PAGE_SIZE, PageTable
from cloud.residency import Residency
from cloud.scheduler import Scheduler, Share
from cloud.session import Session
from cloud.step import run_step
from cloud.step_cost import measure_free_tokens
from cloud.target import TargetModel
from cloud.turn import Drafts, Turn

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """Sums since the start: steps, the seconds spent in them, the tokens they read and the tokens they emitted."""

    num_steps: int = 0
    busy_s: float = 0.0
    num_read: int = 0
    num_emitted: int = 0


class Engine:
    """Serves one target. `num_pages` sizes the memory of all sessions, `token_budget` the largest step.

    `num_free_tokens` is what `Scheduler` calls `num_free`; measured at the start unless given.
    """

    def __init__(
        self,
        target: TargetModel,
        *,
        num_pages: int,
        token_budget: int = 512,
        limits: Limits | None = None,
        num_free_tokens: float | None = None,
    ) -> None:
        self._target = target
        self._pool = target.new_pool(num_pages)
        self._token_budget = token_budget
        self._num_free_tokens = num_free_tokens
        self._limits = limits or Limits()
        self._residency = Residency()
        self._waiting: dict[Session, Turn] = {}  # in order of arrival; the lock is `_work`'s
        self._opened: list[Session] = []
        self._closing: list[Session] = []
        self._is_running = False
        self._work = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.figures = EngineFigures()

    @property
    def served(self) -> Served:
        target = self._target
        rules = {name: str(label) for name, label in LABELS.items()}
        shape = target.vocab_size, target.max_positions
        return Served(target.model_id, target.fingerprint, *shape, self._limits, rules, dict(STRENGTH_OF))

    @property
    def num_free_pages(self) -> int:
        return self._pool.num_free_pages

    @property
    def _max_positions(self) -> int:
        """The longest text that can be read: the model has so many positions, and the memory room for them."""
        return min(self._target.max_positions, self._pool.num_pages * PAGE_SIZE)

    def start(self) -> None:
        """Measures what a step costs, unless that was given, and starts the loop."""
        num_free = measure_free_tokens(self._target) if self._num_free_tokens is None else self._num_free_tokens
        self._scheduler = Scheduler(self._token_budget, num_free=num_free)
        self._is_running = True
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop after the step in hand; what still waits fails with `Unavailable`."""
        with self._work:
            self._is_running = False
            self._work.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._fail(list(self._waiting.values()), Unavailable("the verifier is stopping; send the request again"))

    def open(self, request: Request, tenant: str = "") -> Session:
        """Checks a request against what is served. Raises `Mismatch`, `InvalidInput` or `LimitExceeded`.

        Steps are shared fairly between tenants.
        """
        target = self._target
        if request.model not in ("", target.model_id):
            raise Mismatch(f"this endpoint serves {target.model_id!r}, not {request.model!r}; name that model, or none")
        if request.fingerprint != target.fingerprint:
            raise Mismatch(
                f"the edge's tokenizer ({request.fingerprint}) is not that of {target.model_id!r} ({target.fingerprint}); "
                "use a draft that was made for this target"
            )
        request.check_vocabulary(target.vocab_size)
        most = self._max_positions
        if len(request.prompt) + request.max_tokens > most:
            whose = "of the model" if most == target.max_positions else "in the verifier's memory"
            raise LimitExceeded(
                f"a prompt of {len(request.prompt)} tokens and max_tokens {request.max_tokens} exceed the {most} positions {whose}; "
                "shorten one of them"
            )
        session = Session(request, tenant, PageTable(self._pool))
        with self._work:
            self._opened.append(session)
        return session

    def submit(self, session: Session, round_number: int, drafts: Drafts) -> Future[Decision]:
        """Queues drafts. A round that was decided is answered again with the same decision, whatever comes with it.

        Raises `StaleBase` when the drafts do not follow the text, `InvalidInput` when the session's text is complete, they are not of
        the kind that its rule takes, or they reach beyond the positions there are.
        """
        if isinstance(drafts, CoupledTree) is not session.request.acceptance.is_coupled:
            raise InvalidInput(
                f"the rule {session.request.acceptance.rule!r} takes drafts of the other kind: blocks of paths, or coupled trees"
            )
        with self._work:
            self._check_running()
            last, turn = session.last, self._waiting.get(session)
            if last is not None and (last.round, last.base) == (round_number, drafts.base):
                answered: Future[Decision] = Future()
                answered.set_result(last)
                return answered
            if turn is not None and (turn.round, turn.drafts.base) == (round_number, drafts.base):
                return turn.answer
            if turn is not None:
                raise InvalidInput(f"round {turn.round} is not decided yet; wait for it before sending another")
            if session.is_complete:
                raise InvalidInput("the text of this request is complete; close it and open another")
            if drafts.base != len(session.text):
                raise StaleBase(f"the drafts start at position {drafts.base}, but the text ends at {len(session.text)}; draft from there")
            turn = Turn(session, round_number, drafts, Future())
            self._check_room(turn)
            self._queue(turn)
            return turn.answer

    def decode(self, session: Session, deliver: Callable[[Decision], None]) -> Future[None]:
        """Decodes without drafts until the text ends, which ends the future. `deliver` gets each decision, in the engine's thread: it
        must not wait.
        """
        with self._work:
            self._check_running()
            turn = Turn(session, 0, _nothing_for(session), Future(), deliver)
            self._queue(turn)
            return turn.answer

    def close(self, session: Session) -> None:
        """Frees what the session holds, after the step in hand. What it waits for is dropped."""
        with self._work:
            self._closing.append(session)
            self._work.notify()

    def _check_running(self) -> None:
        if not self._is_running:
            raise Unavailable("the verifier is stopping; send the request again")

    def _check_room(self, turn: Turn) -> None:
        if turn.drafts.base + turn.num_drafted > self._max_positions and turn.num_drafted:
            raise InvalidInput(
                f"text and drafts together are longer than the {self._max_positions} positions there are; draft fewer tokens"
            )

    def _queue(self, turn: Turn) -> None:
        """The caller holds the lock."""
        self._waiting[turn.session] = turn
        self._work.notify()

    def _run(self) -> None:
        while True:
            with self._work:
                self._work.wait_for(lambda: self._waiting or self._closing or not self._is_running)
                self._welcome_and_part()
                if not self._is_running:
                    return
                waiting = dict(self._waiting)
            if not waiting:
                continue
            self._residency.recall(waiting.values())
            shares = self._scheduler.plan(waiting.values(), self._residency.num_due(waiting))
            try:
                seated = self._residency.seat(shares, waiting)
                self._step(seated or self._residency.seat([self._of_the_oldest(waiting)], waiting))
            except Exception as error:  # noqa: BLE001  # the loop must outlive any one step
                _log.exception("a step of %d sessions failed", len(shares))
                self._fail([share.work for share in shares], CactusError(f"the verifier failed: {error!r}; send the request again"))

    def _welcome_and_part(self) -> None:
        """Sessions that were opened and closed since the last step; the caller holds the lock."""
        for session in self._opened:
            self._residency.add(session)
        self._opened.clear()
        for session in self._closing:
            if (turn := self._waiting.pop(session, None)) is not None:
                turn.answer.cancel()
            self._residency.remove(session)
        self._closing.clear()

    def _of_the_oldest(self, waiting: Mapping[Session, Turn]) -> Share[Turn]:
        """For when none of a plan has room: the one session that can have everybody's pages."""
        turn = waiting[self._residency.oldest_of(waiting)]
        return Share(turn, min(turn.num_unread, self._token_budget))

    def _step(self, shares: Sequence[Share[Turn]]) -> None:
        started = time.monotonic()
        decided = run_step(self._target, self._pool, shares)
        took = time.monotonic() - started
        number = self.figures.num_steps + 1
        for share in shares:
            share.work.session.last_step = number
        for turn, error in decided:
            if isinstance(error, CactusError):
                self._fail([turn], error)
        settled = [(turn, self._settle(turn, outcome, started, took)) for turn, outcome in decided if isinstance(outcome, Outcome)]
        sums = self.figures
        num_read = sums.num_read + sum(share.num_tokens for share in shares)
        num_emitted = sums.num_emitted + sum(decision.num_emitted for _, decision in settled)
        self.figures = EngineFigures(number, sums.busy_s + took, num_read, num_emitted)
        with self._work:
            for turn, _ in settled:
                del self._waiting[turn.session]
                if turn.deliver is not None and not turn.session.is_complete:
                    self._queue(Turn(turn.session, turn.round + 1, _nothing_for(turn.session), turn.answer, turn.deliver))
        for turn, decision in settled:  # only now: whoever is told may submit
            _tell(turn, decision)

    def _settle(self, turn: Turn, outcome: Outcome, started: float, took_s: float) -> Decision:
        session = turn.session
        ends = self._target.eos_token_ids
        decision = session.settle(turn.round, outcome, ends, queue_s=started - turn.arrived, verify_s=took_s)
        session.table.publish(session.text)
        session.last_size, session.last_answered = 1 + turn.num_drafted, time.monotonic()
        return decision

    def _fail(self, turns: Sequence[Turn], error: CactusError) -> None:
        with self._work:
            for turn in turns:
                if self._waiting.get(turn.session) is turn:
                    del self._waiting[turn.session]
                turn.start_over()
        for turn in turns:
            if turn.claim():
                turn.answer.set_exception(error)


def _nothing_for(session: Session) -> Drafts:
    empty = empty_tree if session.request.acceptance.is_coupled else empty_block
    return empty(len(session.text))


def _tell(turn: Turn, decision: Decision) -> None:
    if turn.deliver is None:
        if turn.claim():
            turn.answer.set_result(decision)
        return
    turn.deliver(decision)
    if turn.session.is_complete and turn.claim():
        turn.answer.set_result(None)
