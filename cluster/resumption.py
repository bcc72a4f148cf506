"""What another replica needs to go on with a text: what was asked, what has come of it, and what was sent and has no answer.

Knows the messages of one stream as bytes, and of what is in them as little as that takes; knows nothing of calls or addresses.
"""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Ints
from cactus_core.rules import COUPLED
from cactus_core.wire import varints
from cactus_core.wire.v1 import speculation_pb2 as pb
from cluster.peek import opening_in, payload_of

_MAX_UNANSWERED = 4  # blocks: more than credits allow, and no more than a gateway would hold for anybody


class Resumption:
    """Begins with a stream's first message. Raises `InvalidInput` when that is no `Open`, or its tokens cannot be read.

    Blocks are answered in their order, so those without an answer are sent again. Where the cloud decodes by itself the newest frame
    alone matters: a tree, which the replica that died may not have heard, or the Close.
    """

    __slots__ = (
        "_committed",
        "_first",
        "_has_budget",
        "_has_come",
        "_is_streamed",
        "_length",
        "_spent",
        "_unanswered",
        "can_go_on",
        "is_complete",
    )

    def __init__(self, first: bytes) -> None:
        opening = opening_in(first)
        self._first = first
        self._is_streamed = opening.decode_alone or opening.acceptance.rule == COUPLED
        self._has_budget = opening.acceptance.HasField("budget")
        self._committed = bytearray(opening.committed_varints)
        self._length = len(varints.decode(opening.prompt_varints)) + len(varints.decode(opening.committed_varints))
        self._spent = 0.0
        self._unanswered: list[bytes] = []
        self._has_come = False
        self.is_complete = False
        self.can_go_on = True  # all tokens that have come are known

    @property
    def has_room(self) -> bool:
        """Whether another frame may be taken from the edge before the next decision."""
        return self._is_streamed or len(self._unanswered) < _MAX_UNANSWERED

    @property
    def model(self) -> str:
        return opening_in(self._first).model

    @property
    def text(self) -> Ints:
        """Prompt and what has come of it, `[N]`."""
        prompt = varints.decode(opening_in(self._first).prompt_varints)
        return np.concatenate([prompt, varints.decode(bytes(self._committed))])

    @property
    def has_begun(self) -> bool:
        """Whether some of the text has come, from whichever stream."""
        return bool(self._committed)

    def sent(self, payload: bytes) -> None:
        """A message came from the edge, after the first."""
        if self._is_streamed:
            self._unanswered.clear()
        self._unanswered.append(payload)

    def decided(self, decision: pb.Decision) -> None:
        """A decision is about to be passed on to the edge. One that is told again changes nothing."""
        if self._unanswered and not self._is_streamed:
            del self._unanswered[0]
        if decision.base != self._length:
            return
        self._has_come = True
        self._length += len(decision.logprobs)
        self._committed += decision.accepted_varints
        if decision.HasField("final_token"):
            self._committed += varints.encode_one(decision.final_token)
        if self._has_budget:
            self._spent += sum(decision.divergence)
        if decision.num_accepted and not decision.accepted_varints:
            self.can_go_on = False
        self.is_complete = decision.finish != pb.FINISH_NONE

    def opening(self) -> bytes:
        """What to open a replica's stream with, so that it goes on from here."""
        if not self._has_come:
            return self._first
        opening = opening_in(self._first)
        opening.committed_varints = bytes(self._committed)
        if self._has_budget:
            opening.acceptance.budget = max(opening.acceptance.budget - self._spent, 0.0)
        return payload_of(opening)

    def unanswered(self) -> tuple[bytes, ...]:
        """What to say then."""
        return tuple(self._unanswered)
