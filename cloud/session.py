"""A session at the verifier: one text in the making, and the block that waits for its decision.

Knows what a session adds to a step; knows nothing of other sessions, of threads or of streams.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from cactus_core.block import Block
from cactus_core.ledger import Ledger
from cactus_core.session import Decision, Request
from cloud.decide import Ballot
from cloud.pages import PageTable
from cloud.scheduler import Share
from cloud.segment import Segment
from cloud.tree import DraftTree


@dataclass(eq=False, slots=True)
class Session:
    """One text in the making. `table.num_committed` of its tokens have been read by the model; at least the last has not.

    `ledger` has an entry for each token that was emitted.
    """

    request: Request
    table: PageTable
    text: list[int]
    ledger: Ledger
    last: Decision | None = None
    turn: Turn | None = None

    @property
    def num_emitted(self) -> int:
        return len(self.text) - len(self.request.prompt)


@dataclass(eq=False, slots=True)
class Turn:
    """One block that waits for its decision."""

    session: Session
    round: int
    block: Block
    tree: DraftTree
    decision: Future[Decision] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    @property
    def num_unread(self) -> int:
        return len(self.session.text) - self.session.table.num_committed

    @property
    def num_drafted(self) -> int:
        return len(self.tree.tokens)

    def claim(self) -> bool:
        """Whether the decision is still wanted; once claimed, it can no longer be cancelled, and may be set."""
        return self.decision.running() or self.decision.set_running_or_notify_cancel()


def segment_of(share: Share[Turn]) -> Segment:
    """A share's text as a chain after what was read before, and its block's tree after the text."""
    turn, read = share.work, share.work.session.table.num_committed
    tokens = np.array(turn.session.text[read : read + share.num_text])
    parents = np.arange(-1, share.num_text - 1)
    if not share.decides:
        return Segment(turn.session.table, tokens, parents, num_logits=0)
    tree = turn.tree
    tokens = np.concatenate([tokens, tree.tokens])
    parents = np.concatenate([parents, tree.parents + share.num_text])  # the tree's -1 becomes the text's last token
    return Segment(turn.session.table, tokens, parents, num_logits=1 + len(tree.tokens))


def ballot_of(turn: Turn) -> Ballot:
    request = turn.session.request
    return Ballot(turn.block, turn.tree, request.sampling, request.acceptance, turn.session.ledger.left, request.seed)
