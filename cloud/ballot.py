"""What one session brings to a step's decisions, and what it takes from them.

Knows requests, drafts and texts; knows nothing of logits, of laws or of how either family of drafts is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cactus_core.block import Block
from cactus_core.coupled import CoupledTree
from cactus_core.session import Likeliest, Request
from cloud.tree import DraftTree


@dataclass(frozen=True, slots=True, eq=False)
class Ballot:
    """One session's part of a step: its drafts, their tree, its request, its text (the prompt and all that was emitted), and
    what of its budget is `left`, in nats. Its 1 + N rows of logits are those at the end of its text and at the tree's N nodes.
    """

    drafts: Block | CoupledTree
    tree: DraftTree
    request: Request
    text: Sequence[int]
    left: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The tree's `nodes` that stand, in order, and `tokens`: theirs, then the corrected or bonus token.

    `place` is the path that was followed, 0 of a coupled tree. Of each token:
    the log-probability; the ledger's entry, a float32's value, so that what travels is what is charged; and the likeliest
    tokens in its place, where the request asks for them.
    """

    place: int
    nodes: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    divergence: tuple[float, ...]
    top_logprobs: tuple[Likeliest, ...] = ()
