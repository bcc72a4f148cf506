"""What comes back to the caller: tokens that say where they came from, and rounds that say what they cost.

Knows values; knows nothing of links, of drafters or of how either family speculates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cactus_core.session import Decision, Finish, Likeliest


class Origin(StrEnum):
    ACCEPTED = "accepted"  # drafted here, and stands
    CORRECTED = "corrected"  # the target's own, in the place of a draft that does not
    BONUS = "bonus"  # the target's own, after a path that stands whole
    DECODED = "decoded"  # the target's own, with nothing drafted
    UNVERIFIED = "unverified"  # the draft's own, while the cloud is away: it may be taken back


@dataclass(frozen=True, slots=True)
class Token:
    """`logprob` is natural, NaN where the target was not asked; `divergence` is what the token cost of the budget, in nats: 0 where
    nothing was relaxed. `likeliest` are the likeliest tokens in its place, where the request asks for them.
    """

    id: int
    origin: Origin
    logprob: float
    divergence: float
    likeliest: Likeliest = ()


@dataclass(frozen=True, slots=True)
class Round:
    """One decision's tokens and costs.

    Since the decision before, `num_drafted` tokens were drafted in `draft_s` and sent, `length` deep; this decision came `wait_s` after
    they were sent or, where none were, after the one before. `queue_s` and `verify_s` are the cloud's part of it. `at_s` is when it
    came, since the stream was opened.
    """

    tokens: tuple[Token, ...]
    num_drafted: int
    length: int
    num_accepted: int
    draft_s: float
    wait_s: float
    queue_s: float
    verify_s: float
    at_s: float
    finish: Finish | None


def tokens_of(decision: Decision, accepted: Sequence[int], final_origin: Origin) -> tuple[Token, ...]:
    """What a decision emits: the `accepted` ids, which were drafted here, and its final token, which came as `final_origin` says."""
    ids, origins = list(accepted), [Origin.ACCEPTED] * len(accepted)
    if decision.final is not None:
        ids.append(decision.final)
        origins.append(final_origin)
    likeliest = decision.top_logprobs or ((),) * len(ids)
    columns = zip(ids, origins, decision.logprobs, decision.divergence, likeliest, strict=True)
    return tuple(Token(*of_token) for of_token in columns)
