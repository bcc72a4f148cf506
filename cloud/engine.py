"""The verifier's engine, as its callers see it: sessions are opened, submit blocks or stream, and are closed.

Any thread may call, and never waits for the model: a loop in a thread of its own does the work. Knows what may be asked; knows nothing
of how a step is made up, or of messages.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future

from cactus_core.acceptance import STRENGTH_OF
from cactus_core.block import Block
from cactus_core.errors import InvalidInput, LimitExceeded, Mismatch, StaleBase, Unavailable
from cactus_core.rules import LABELS
from cactus_core.session import Decision, Hint, Limits, Request, Served
from cloud.loop import EngineFigures, Loop
from cloud.pages import PAGE_SIZE, PageTable
from cloud.residency import Residency
from cloud.session import Session
from cloud.step_cost import measure_free_tokens
from cloud.stream import Stream
from cloud.tally import Tally
from cloud.target import TargetModel
from cloud.turn import Turn
from cloud.waiting import Waiting

_log = logging.getLogger(__name__)
_IS_COMPLETE = "the text of this request is complete; close it and open another"


class Engine:
    """Serves one target. `num_pages` sizes the memory of all sessions, `token_budget` the largest step.

    `num_free_tokens` is what `Scheduler` calls `num_free`; measured at the start unless given. A step that takes less than
    `step_at_least_s` is drawn out to that by sleeping: a slower verifier, *emulated* on a small machine.
    """

    def __init__(
        self,
        target: TargetModel,
        *,
        num_pages: int,
        token_budget: int = 512,
        limits: Limits | None = None,
        num_free_tokens: float | None = None,
        step_at_least_s: float = 0.0,
    ) -> None:
        if not 0.0 <= step_at_least_s < math.inf:
            raise InvalidInput(f"step_at_least_s must be 0 seconds or more, not {step_at_least_s}")
        self._target = target
        self._pool = target.new_pool(num_pages)
        self._num_free_tokens = num_free_tokens
        self._token_budget = token_budget
        self._step_at_least_s = step_at_least_s
        self._limits = limits or Limits()
        self.tally = Tally()
        self._residency = Residency(self.tally)
        self._waiting = Waiting()
        self._loop = Loop(target, self._pool, self._waiting, self._residency, self.tally, token_budget, step_at_least_s)

    @property
    def figures(self) -> EngineFigures:
        return self._loop.figures

    @property
    def served(self) -> Served:
        target = self._target
        rules = {name: str(label) for name, label in LABELS.items()}
        shape = target.vocab_size, self._max_positions
        return Served(target.model_id, target.fingerprint, *shape, self._limits, rules, dict(STRENGTH_OF))

    @property
    def num_free_pages(self) -> int:
        return self._pool.num_free_pages

    @property
    def num_pages(self) -> int:
        return self._pool.num_pages

    @property
    def num_sessions(self) -> int:
        """Open now."""
        return self._residency.num_sessions

    @property
    def num_waiting(self) -> int:
        """Sessions whose work waits, or is in the step in hand."""
        return len(self._waiting.turns)

    @property
    def longest_wait_s(self) -> float:
        """Of the work that waits now, or is in the step in hand."""
        return self._waiting.longest_s

    def recent_keys(self, num_keys: int) -> list[bytes]:
        """Keys (prefixes.py) of what was read or shared last: at most so many."""
        return self._pool.recent_keys(num_keys)

    @property
    def _max_positions(self) -> int:
        """The longest text that can be read: the model has so many positions, and the memory room for them."""
        return min(self._target.max_positions, self._pool.num_pages * PAGE_SIZE)

    def start(self) -> None:
        """Measures what a step costs, unless that was given, and starts the loop."""
        num_free = self._num_free_tokens
        if num_free is None:
            num_free = measure_free_tokens(self._target, self._step_at_least_s)
        if self._step_at_least_s:
            _log.warning("every step is padded to at least %g ms: emulated", self._step_at_least_s * 1e3)
        self._target.capture(self._pool, self._token_budget)
        self._waiting.is_running = True
        self._loop.start(num_free)

    def stop(self) -> None:
        """Ends the loop after the step in hand; what still waits fails with `Unavailable`."""
        with self._waiting.lock:
            self._waiting.is_running = False
            self._waiting.lock.notify()
        self._loop.join()
        self._waiting.fail_all(Unavailable("the verifier is stopping; send the request again"))

    def open(self, request: Request, tenant: str = "") -> Session:
        """Checks a request against what is served. Raises `Mismatch`, `InvalidInput` or `LimitExceeded`.

        Steps are shared fairly between tenants.
        """
        target = self._target
        if request.model not in ("", target.model_id):
            raise Mismatch(f"this endpoint serves {target.model_id!r}, not {request.model!r}; name that model, or none")
        if request.fingerprint != target.fingerprint:
            raise Mismatch(
                f"the edge's tokenizer ({request.fingerprint!r}) is not that of {target.model_id!r} ({target.fingerprint}); "
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
        if any(token in target.eos_token_ids or token in request.stop_ids for token in request.committed):
            raise InvalidInput(_IS_COMPLETE)
        session = Session(request, tenant, PageTable(self._pool))
        self._waiting.open(session)
        return session

    def submit(self, session: Session, round_number: int, block: Block) -> Future[Decision]:
        """Queues a block. A round that was decided is answered again with the same decision, whatever comes with it.

        Raises `StaleBase` when the block does not follow the text, `InvalidInput` when the session's text is complete or is written
        without blocks, or the block reaches beyond the positions there are.
        """
        if session.request.acceptance.is_coupled:
            raise InvalidInput(f"the rule {session.request.acceptance.rule!r} takes coupled trees, and no blocks")
        with self._waiting.lock:
            self._waiting.check_running()
            last, turn = session.last, self._waiting.turns.get(session)
            if session in self._waiting.streams:
                raise InvalidInput("this text is decoded without blocks; open another to draft for")
            if last is not None and (last.round, last.base) == (round_number, block.base):
                answered: Future[Decision] = Future()
                answered.set_result(last)
                return answered
            if turn is not None and (turn.round, turn.drafts.base) == (round_number, block.base):
                return turn.answer
            if turn is not None:
                raise InvalidInput(f"round {turn.round} is not decided yet; wait for it before sending another")
            if session.is_complete:
                raise InvalidInput(_IS_COMPLETE)
            if block.base != len(session.text):
                raise StaleBase(f"the drafts start at position {block.base}, but the text ends at {len(session.text)}; draft from there")
            turn = Turn(session, round_number, block, Future())
            if turn.num_drafted and block.base + turn.num_drafted > self._max_positions:
                raise InvalidInput(
                    f"text and drafts together are longer than the {self._max_positions} positions there are; draft fewer tokens"
                )
            session.away_s = turn.arrived - session.last_answered
            self._waiting.put(turn)
            return turn.answer

    def stream(self, session: Session, deliver: Callable[[Decision], None]) -> Future[None]:
        """Writes the text on until it ends, which ends the future; under the rule `coupled` with the drafts of `hint`.

        Where nothing is drafted it decodes: under `coupled` when a tree asks for it or the wait is over that the newest hint told; with
        `decode_alone`, until a hint tells another, and under the other rules there is no wait. `deliver` gets each decision, in
        the engine's thread: it must not wait. Raises `InvalidInput` for a session that has a stream or a block under way.
        """
        with self._waiting.lock:
            self._waiting.check_running()
            if session.is_complete:
                raise InvalidInput(_IS_COMPLETE)
            if session in self._waiting.streams or session in self._waiting.turns:
                raise InvalidInput("this text is being written already; wait for its decisions")
            stream = Stream.of(session, deliver, self._max_positions, time.monotonic())
            self._waiting.add_stream(stream)
            return stream.end

    def hint(self, session: Session, hint: Hint) -> None:
        """Drafts for a stream. The newest counts, from where the text then ends; of a text that has ended nothing is wanted any more.

        Raises `InvalidInput` when it starts within the prompt or beyond what was emitted, or the session's rule takes no trees.
        """
        if not session.request.acceptance.is_coupled:
            raise InvalidInput(f"the rule {session.request.acceptance.rule!r} takes blocks of paths, and no coupled trees")
        self._waiting.hint(session, hint)

    def close(self, session: Session) -> None:
        """Frees what the session holds, after the step in hand. What it waits for is dropped."""
        self._waiting.close(session)
