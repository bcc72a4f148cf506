"""A session at the verifier: one text in the making.

Knows what was asked for and what came of it; knows nothing of other sessions, of steps, of threads or of streams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cactus_core.ledger import Ledger
from cactus_core.session import Decision, Finish, Request
from cloud.ballot import Outcome
from cloud.pages import PageTable


@dataclass(eq=False, slots=True)
class Session:
    """One text, of which the model has read `table.num_committed` tokens; at least the last it has not.

    `ledger` has an entry for each token that was emitted. `last_step` is the step in which it was last read, `last_size` the
    tokens of its last drafts with the text before them, `last_answered` when they were decided, on the monotonic clock, and
    `away_s` how long its edge took from a decision to the next drafts, the last time.
    """

    request: Request
    tenant: str
    table: PageTable
    text: list[int] = field(init=False)
    ledger: Ledger = field(init=False)
    last: Decision | None = None
    last_step: int = 0
    last_size: int = 0
    last_answered: float = -math.inf
    away_s: float = math.inf

    def __post_init__(self) -> None:
        self.text = [*self.request.prompt, *self.request.committed]
        self.ledger = Ledger(self.request.acceptance.budget)

    @property
    def num_emitted(self) -> int:
        return len(self.text) - len(self.request.prompt)

    @property
    def is_complete(self) -> bool:
        return self.last is not None and self.last.finish is not None

    def settle(
        self, round_number: int, outcome: Outcome, ends: frozenset[int], *, queue_s: float, verify_s: float, hint_age_s: float = 0.0
    ) -> Decision:
        """Appends what stands, up to a token of `ends` or of the request's own, or to the last that may come; charges that, and
        notes the decision.
        """
        base, emitted, finish = len(self.text), list(outcome.tokens), None
        room = self.request.max_tokens - self.num_emitted
        for i, token in enumerate(emitted[:room]):
            if token in ends or token in self.request.stop_ids:
                emitted, finish = emitted[: i + 1], Finish.STOP
                break
        else:
            if len(emitted) >= room:
                emitted, finish = emitted[:room], Finish.LENGTH
        num_accepted = min(len(outcome.nodes), len(emitted))
        self.text += emitted
        self.ledger.charge(outcome.divergence[: len(emitted)])
        self.last = Decision(
            round=round_number,
            base=base,
            row=outcome.place,
            num_accepted=num_accepted,
            final=emitted[-1] if len(emitted) > num_accepted else None,
            logprobs=outcome.logprobs[: len(emitted)],
            divergence=outcome.divergence[: len(emitted)],
            top_logprobs=outcome.top_logprobs[: len(emitted)],
            accepted=tuple(emitted[:num_accepted]) if self.request.acceptance.is_coupled else (),
            finish=finish,
            queue_s=queue_s,
            verify_s=verify_s,
            hint_age_s=hint_age_s,
        )
        return self.last
