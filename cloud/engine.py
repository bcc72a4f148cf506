"""The step loop: takes whatever is waiting, runs one packed forward, decides for all of it at once.

Runs in a thread of its own; `open`, `submit` and `close` may be called from any thread and never wait for the model. A
session's error ends that session alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future

import torch
from torch import Tensor

from cactus_core.acceptance import STRENGTH_OF
from cactus_core.block import Block
from cactus_core.errors import CactusError, InvalidInput, LimitExceeded, Mismatch, StaleBase, Unavailable
from cactus_core.ledger import Ledger
from cactus_core.rules import RULES
from cactus_core.session import Decision, Finish, Limits, Request, Served
from cloud.decide import Outcome, decide_all
from cloud.pages import PageTable, commit_paths
from cloud.scheduler import Share, plan_step
from cloud.session import Session, Turn, ballot_of, segment_of
from cloud.target import TargetModel
from cloud.tree import DraftTree

_log = logging.getLogger(__name__)


class Engine:
    """Serves one target. `num_pages` sizes the memory of all sessions, `token_budget` the largest step."""

    def __init__(self, target: TargetModel, *, num_pages: int, token_budget: int = 512, limits: Limits | None = None) -> None:
        self._target = target
        self._pool = target.new_pool(num_pages)
        self._token_budget = token_budget
        self._limits = limits or Limits()
        self._waiting: deque[Turn] = deque()
        self._closing: list[Session] = []
        self._is_running = False
        self._work = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def served(self) -> Served:
        target = self._target
        rules = {rule.name: str(rule.label) for rule in RULES.values()}
        shape = target.vocab_size, target.max_positions
        return Served(target.model_id, target.fingerprint, *shape, self._limits, rules, dict(STRENGTH_OF))

    @property
    def num_free_pages(self) -> int:
        return self._pool.num_free_pages

    def start(self) -> None:
        self._is_running = True
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop after the step in hand; what still waits fails with `Unavailable`."""
        with self._work:
            self._is_running = False
            self._work.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._fail(list(self._waiting), Unavailable("the verifier is stopping; send the request again"))

    def open(self, request: Request) -> Session:
        """Checks a request against what is served. Raises `Mismatch`, `InvalidInput` or `LimitExceeded`."""
        served = self.served
        if request.model not in ("", served.model):
            raise Mismatch(f"this endpoint serves {served.model!r}, not {request.model!r}; name that model, or none")
        if request.fingerprint != served.fingerprint:
            raise Mismatch(
                f"the edge's tokenizer ({request.fingerprint}) is not that of {served.model!r} ({served.fingerprint}); "
                "use a draft that was made for this target"
            )
        if max(request.prompt) >= served.vocab_size:
            raise InvalidInput(f"the prompt names token {max(request.prompt)}, but the vocabulary has {served.vocab_size}")
        if len(request.prompt) + request.max_tokens > served.max_positions:
            raise LimitExceeded(
                f"a prompt of {len(request.prompt)} tokens and max_tokens {request.max_tokens} exceed the {served.max_positions} "
                "positions of the model; shorten one of them"
            )
        return Session(request, PageTable(self._pool), list(request.prompt), Ledger(request.acceptance.budget))

    def submit(self, session: Session, round_number: int, block: Block) -> Future[Decision]:
        """Queues a block. A round that was decided is answered again with the same decision, whatever block comes with it.

        Raises `StaleBase` when the block does not follow the text, `InvalidInput` when the session's text is complete or the
        block reaches beyond the model's positions.
        """
        tree = DraftTree.of(block)
        with self._work:
            if not self._is_running:
                raise Unavailable("the verifier is stopping; send the request again")
            last, turn = session.last, session.turn
            if last is not None and (last.round, last.base) == (round_number, block.base):
                answered: Future[Decision] = Future()
                answered.set_result(last)
                return answered
            if turn is not None and (turn.round, turn.block.base) == (round_number, block.base):
                return turn.decision
            if turn is not None:
                raise InvalidInput(f"round {turn.round} is not decided yet; wait for it before sending another")
            if last is not None and last.finish is not None:
                raise InvalidInput("the text of this request is complete; close it and open another")
            if block.base != len(session.text):
                raise StaleBase(f"the block starts at position {block.base}, but the text ends at {len(session.text)}; draft from there")
            if block.base + block.length > self._target.max_positions:
                raise InvalidInput(f"the block ends after the model's {self._target.max_positions} positions; draft fewer tokens")
            session.turn = Turn(session, round_number, block, tree)
            self._waiting.append(session.turn)
            self._work.notify()
            return session.turn.decision

    def close(self, session: Session) -> None:
        """Frees what the session holds, after the step in hand. Its waiting blocks are dropped."""
        with self._work:
            self._closing.append(session)
            self._work.notify()

    def _run(self) -> None:
        while True:
            with self._work:
                self._work.wait_for(lambda: self._waiting or self._closing or not self._is_running)
                self._release_closed()
                if not self._is_running:
                    return
                shares = plan_step(self._waiting, self._token_budget)
            shares = self._with_room(shares)
            if not shares:
                continue
            try:
                self._step(shares)
            except Exception as error:  # noqa: BLE001  # the loop must outlive any one step
                _log.exception("a step of %d sessions failed", len(shares))
                self._fail([share.work for share in shares], CactusError(f"the verifier failed: {error!r}; send the request again"))

    def _release_closed(self) -> None:
        for session in self._closing:
            if session.turn is not None:
                session.turn.decision.cancel()
                self._drop(session.turn)
            session.table.release()
        self._closing.clear()

    def _with_room(self, shares: list[Share[Turn]]) -> list[Share[Turn]]:
        """Those whose pages could be had; the others fail with `LimitExceeded` and hold nothing."""
        kept = []
        for share in shares:
            table = share.work.session.table
            try:
                table.reserve(table.num_committed + share.num_text + (share.work.num_drafted if share.decides else 0))
                kept.append(share)
            except LimitExceeded as error:
                self._fail([share.work], error)
        return kept

    def _fail(self, turns: list[Turn], error: CactusError) -> None:
        with self._work:
            for turn in turns:
                self._drop(turn)
                turn.session.table.release()
        for turn in turns:
            if turn.claim():
                turn.decision.set_exception(error)

    def _drop(self, turn: Turn) -> None:
        """Takes a turn out of the queue; the caller holds the lock."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        turn.session.turn = None

    def _step(self, shares: list[Share[Turn]]) -> None:
        started = time.monotonic()
        logits = self._target.forward([segment_of(share) for share in shares])
        outcomes = self._decided(logits, [share.work for share in shares if share.decides])
        took = time.monotonic() - started

        accepted = {id(turn): turn.tree.path(outcome.row, outcome.num_accepted) for turn, outcome in outcomes}
        paths = [(share, accepted.get(id(share.work), [])) for share in shares if not share.decides or id(share.work) in accepted]
        commit_paths(
            self._pool,
            [(s.work.session.table, [*range(s.num_text), *(s.num_text + node for node in nodes)]) for s, nodes in paths],
        )
        with self._work:
            for turn, outcome in outcomes:
                self._drop(turn)
                self._settle(turn, outcome, started - turn.arrived, took)
        for turn, _ in outcomes:
            if turn.session.last is not None and turn.claim():
                turn.decision.set_result(turn.session.last)

    def _decided(self, logits: Tensor, turns: list[Turn]) -> list[tuple[Turn, Outcome]]:
        """What stands of each turn's block. Should deciding together fail, each is decided by itself: whose fault it is fails alone."""
        ballots = [ballot_of(turn) for turn in turns]
        if not ballots:
            return []
        try:
            return list(zip(turns, decide_all(logits, ballots), strict=True))
        except Exception:  # an error of ours: what was asked for was checked when it came
            if len(turns) == 1:
                raise
            _log.exception("%d sessions could not be decided together", len(turns))
        outcomes = []
        for turn, rows in zip(turns, torch.split(logits, [1 + turn.num_drafted for turn in turns]), strict=True):
            try:
                outcomes += self._decided(rows, [turn])
            except Exception as error:  # noqa: BLE001  # as in the loop
                self._fail([turn], CactusError(f"the verifier failed: {error!r}; send the request again"))
        return outcomes

    def _settle(self, turn: Turn, outcome: Outcome, queue_s: float, verify_s: float) -> None:
        """Appends to the text what stands, up to an end-of-text token or the request's last token; charges that, and notes the decision."""
        session = turn.session
        emitted = [*turn.block.tokens[outcome.row, : outcome.num_accepted].tolist()] if outcome.num_accepted else []
        emitted.append(outcome.final)
        finish = None
        room = session.request.max_tokens - session.num_emitted
        for i, token in enumerate(emitted[:room]):
            if token in self._target.eos_token_ids:
                emitted, finish = emitted[: i + 1], Finish.STOP
                break
        else:
            if len(emitted) >= room:
                emitted, finish = emitted[:room], Finish.LENGTH
        num_accepted = min(outcome.num_accepted, len(emitted))
        session.text += emitted
        session.ledger.charge(outcome.divergence[: len(emitted)])
        session.last = Decision(
            round=turn.round,
            base=turn.block.base,
            row=outcome.row,
            num_accepted=num_accepted,
            final=emitted[-1] if len(emitted) > num_accepted else None,
            logprobs=outcome.logprobs[: len(emitted)],
            divergence=outcome.divergence[: len(emitted)],
            finish=finish,
            queue_s=queue_s,
            verify_s=verify_s,
        )
