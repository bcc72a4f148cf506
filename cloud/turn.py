"""A turn: what a session waits for, from the drafts' arrival to their decision, read by the model in one step or in several.

Knows its session's text and its drafts' tree; knows nothing of what else is in a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cactus_core.block import Block
from cactus_core.coupled import CoupledTree
from cactus_core.session import Decision
from cloud.ballot import Ballot
from cloud.segment import Segment
from cloud.session import Session
from cloud.tree import DraftTree

Drafts = Block | CoupledTree


@dataclass(eq=False, slots=True)
class Turn:
    """`answer` is the decision's or, where each decision is handed to `deliver` and the text goes on by itself, the end of the text.

    `hinted` is when the newest of the drafts' hints came. Before the moment `optional_until` the turn may as well wait: its edge is
    drafting, and drafts bring more tokens for the same reading. `num_before` of the tree's nodes were read by earlier steps: they lie
    after the committed text, and their rows of logits, with the one at the end of the text, are in `rows`.
    """

    session: Session
    round: int
    drafts: Drafts
    answer: Future[Any]
    deliver: Callable[[Decision], None] | None = None
    tree: DraftTree = field(init=False)
    num_before: int = 0
    rows: list[Tensor] = field(default_factory=list)
    arrived: float = field(default_factory=time.monotonic)
    hinted: float = -math.inf
    optional_until: float = -math.inf
    is_in_parts: bool = False  # some of it was read already

    def __post_init__(self) -> None:
        self.tree = DraftTree.of(self.drafts)

    @property
    def tenant(self) -> str:
        return self.session.tenant

    @property
    def is_optional(self) -> bool:
        return time.monotonic() < self.optional_until

    @property
    def has_begun(self) -> bool:
        """Whether the model has read up to its drafts: from then on they are what they are."""
        return bool(self.rows)

    @property
    def num_unread(self) -> int:
        return self._num_text_unread + self.num_drafted - self.num_before

    @property
    def num_drafted(self) -> int:
        return len(self.tree.tokens)

    @property
    def _num_text_unread(self) -> int:
        return len(self.session.text) - self.session.table.num_committed

    def _split(self, num_tokens: int) -> tuple[int, int]:
        """How many of the next tokens are of the text, and how many of the tree."""
        num_text = min(num_tokens, self._num_text_unread)
        return num_text, num_tokens - num_text

    def part(self, num_tokens: int) -> Segment:
        """The next of what is unread: text as a chain after what was read before, then nodes of the tree. Logits are wanted from the
        text's last token on.
        """
        table, tree, before = self.session.table, self.tree, self.num_before
        num_text, num_nodes = self._split(num_tokens)
        if not num_nodes:
            reads_to_the_end = num_text == self._num_text_unread
            text = np.array(self.session.text[table.num_committed : table.num_committed + num_text])
            return Segment(table, text, np.arange(-1, num_text - 1), num_logits=int(reads_to_the_end))
        if not num_text:
            stop = before + num_nodes
            return Segment(table, tree.tokens[before:stop], tree.parents[:stop], num_logits=num_nodes, num_before=before)
        text = np.array(self.session.text[table.num_committed :])
        tokens = np.concatenate([text, tree.tokens[:num_nodes]])
        # The tree's -1 becomes the text's last token.
        parents = np.concatenate([np.arange(-1, num_text - 1), tree.parents[:num_nodes] + num_text])
        return Segment(table, tokens, parents, num_logits=1 + num_nodes)

    def put_by(self, num_tokens: int, rows: Tensor) -> None:
        """After a step that read no more than a part of it: keeps what was read, and copies of the part's logits `rows`."""
        num_text, num_nodes = self._split(num_tokens)
        self.session.table.advance(num_text)
        self.num_before += num_nodes
        self.is_in_parts = True
        if len(rows):
            self.rows.append(rows.clone())

    def all_rows(self, rows: Tensor) -> Tensor:
        """The logits `[1 + N, V]` at the text's end and at the tree's nodes, given the last part's."""
        return torch.cat([*self.rows, rows]) if self.rows else rows

    def path(self, num_tokens: int, nodes: tuple[int, ...]) -> list[int]:
        """What to commit after the step that read the last `num_tokens`: of the positions after the committed ones, those of the
        text and of the `nodes` that stand.
        """
        num_text, _ = self._split(num_tokens)
        return [*range(num_text), *(num_text + node for node in nodes)]

    def start_over(self) -> None:
        """Gives back what was read: its pages are wanted elsewhere."""
        self.session.table.release()
        self.num_before = 0
        self.is_in_parts = False
        self.rows.clear()

    def ballot(self) -> Ballot:
        return Ballot(self.drafts, self.tree, self.session.request, self.session.text, self.session.ledger.left)

    def claim(self) -> bool:
        """Whether the answer is still wanted; once claimed, it can no longer be cancelled, and may be set."""
        return not self.answer.done() and (self.answer.running() or self.answer.set_running_or_notify_cancel())
