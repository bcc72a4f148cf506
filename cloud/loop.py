"""The step loop: takes whatever is waiting, runs one packed forward, decides for all of it at once, tells.

A thread of its own. Knows steps and who is told; knows nothing of requests, of what callers may ask, or of streams' hints.
A session's error ends that session alone.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cactus_core.errors import CactusError
from cactus_core.session import Decision
from cloud.ballot import Outcome
from cloud.pages import PagePool
from cloud.residency import Residency
from cloud.scheduler import SMALL, Scheduler, Share, is_large
from cloud.session import Session
from cloud.spare_time import SpareTime
from cloud.step import run_step
from cloud.tally import Tally
from cloud.target import TargetModel
from cloud.turn import Turn
from cloud.waiting import Waiting

_log = logging.getLogger(__name__)

_SLACK_S = 0.001  # that an edge may take longer than the last time


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """Sums since the start: steps, the seconds spent in them, the tokens they read and the tokens they emitted; decisions, and the
    seconds that their work had waited for its step.
    """

    num_steps: int = 0
    busy_s: float = 0.0
    num_read: int = 0
    num_emitted: int = 0
    num_decided: int = 0
    queue_s: float = 0.0


class Loop:
    """Steps of one target over the turns of `waiting`. No step is told of before it is `step_at_least_s` old."""

    def __init__(
        self,
        target: TargetModel,
        pool: PagePool,
        waiting: Waiting,
        residency: Residency,
        tally: Tally,
        token_budget: int,
        step_at_least_s: float,
    ) -> None:
        self._target = target
        self._pool = pool
        self._waiting = waiting
        self._residency = residency
        self._token_budget = token_budget
        self._step_at_least_s = step_at_least_s
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._part_s = 0.0  # the last step's that read large work alone, in company of what was only due
        self._in_hand: list[Turn] = []  # of the step in hand, those whose outcome nobody was told yet
        self._spare_time = SpareTime(target)
        self.figures = EngineFigures()
        self.tally = tally

    def start(self, num_free_tokens: float) -> None:
        self._scheduler = Scheduler(self._token_budget, num_free=num_free_tokens)
        self._thread.start()

    def join(self) -> None:
        """Returns once the step in hand, if any, is over. `waiting` was told before that no more are to come."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (turns := self._waiting.next(self._residency, at_once=self._spare_time.is_of_use)) is not None:
            if not turns:
                self._spare_time.use()
                continue
            if self._makes_way(turns):
                continue
            self._residency.recall(turns.values())
            shares = self._scheduler.plan(turns.values(), self._residency.num_due(turns))
            self._in_hand = [share.work for share in shares]
            try:
                seated = self._residency.seat(shares, turns)
                self._step(seated or self._residency.seat([self._of_the_oldest(turns)], turns))
            except Exception as error:  # noqa: BLE001  # the loop must outlive any one step
                _log.exception("a step of %d sessions failed", len(shares))
                self._waiting.fail(self._in_hand, CactusError(f"the verifier failed: {error!r}; send the request again"))

    def _makes_way(self, turns: Mapping[Session, Turn]) -> bool:
        """Where only large work waits, and smaller is expected before a part of it would be read: waits for that, a moment longer than
        expected at most. Else whoever comes back would find a step of somebody's large work half done, each time.
        """
        if not all(is_large(turn) for turn in turns.values()):
            return False
        back = self._residency.next_back(turns)
        if back > time.monotonic() + self._part_s:
            return False
        self._waiting.pause(back + _SLACK_S)
        return True

    def _of_the_oldest(self, turns: Mapping[Session, Turn]) -> Share[Turn]:
        """For when none of a plan has room: the one session that can have everybody's pages."""
        turn = turns[self._residency.oldest_of(turns)]
        return Share(turn, min(turn.num_unread, self._token_budget))

    def _step(self, shares: Sequence[Share[Turn]]) -> None:
        started = time.monotonic()
        self._in_hand = [share.work for share in shares]
        num_tokens = sum(share.num_tokens for share in shares)
        num_steps, num_read, busy_s = 1, num_tokens, 0.0
        was_large = all(is_large(turn) for turn in self._in_hand)
        for turn in self._in_hand:
            turn.session.last_step = self.figures.num_steps + 1
        for decided in run_step(self._target, self._pool, shares):
            if num_steps and (early_s := started + self._step_at_least_s - time.monotonic()) > 0.0:
                time.sleep(early_s)
            took = time.monotonic() - started
            self._conclude(decided, EngineFigures(num_steps, took - busy_s, num_read), started, took)
            num_steps, num_read, busy_s = 0, 0, took
        if was_large and num_tokens <= SMALL:
            self._part_s = busy_s
        self.tally.stepped(busy_s, num_tokens)

    def _conclude(self, decided: Sequence[tuple[Turn, Outcome | CactusError]], more: EngineFigures, started: float, took_s: float) -> None:
        """Settles and tells what was decided `took_s` into a step."""
        for turn, error in decided:
            if isinstance(error, CactusError):
                self._waiting.fail([turn], error)
        settled = [(turn, self._settle(turn, outcome, started, took_s)) for turn, outcome in decided if isinstance(outcome, Outcome)]
        over = {turn for turn, _ in decided}
        self._in_hand = [turn for turn in self._in_hand if turn not in over]
        sums = self.figures
        self.figures = EngineFigures(
            sums.num_steps + more.num_steps,
            sums.busy_s + more.busy_s,
            sums.num_read + more.num_read,
            sums.num_emitted + sum(decision.num_emitted for _, decision in settled),
            sums.num_decided + len(settled),
            sums.queue_s + sum(decision.queue_s for _, decision in settled),
        )
        self._waiting.settled([turn for turn, _ in settled])
        self._spare_time.prepare_for([turn.session for turn, _ in settled if not turn.session.is_complete])
        for turn, decision in settled:  # only now: whoever is told may submit
            self._tell(turn, decision)

    def _settle(self, turn: Turn, outcome: Outcome, started: float, took_s: float) -> Decision:
        session = turn.session
        ends = self._target.eos_token_ids
        hint_age_s = started + took_s - turn.hinted if turn.hinted > -math.inf else 0.0
        decision = session.settle(turn.round, outcome, ends, queue_s=started - turn.arrived, verify_s=took_s, hint_age_s=hint_age_s)
        session.table.publish(session.text, session.tenant)
        rule = session.request.acceptance.rule
        self.tally.decided(rule, turn.num_drafted, decision.num_accepted, sum(decision.divergence), decision.queue_s)
        session.last_size, session.last_answered = 1 + turn.num_drafted, time.monotonic()
        return decision

    def _tell(self, turn: Turn, decision: Decision) -> None:
        if turn.deliver is None:
            if turn.claim():
                turn.answer.set_result(decision)
            return
        try:
            turn.deliver(decision)
        except Exception as error:  # noqa: BLE001  # whoever cannot be told is no matter of the others
            _log.exception("a decision could not be delivered")
            self._waiting.fail([turn], CactusError(f"a decision could not be delivered: {error!r}; send the request again"))
        if turn.session.is_complete and turn.claim():
            turn.answer.set_result(None)
