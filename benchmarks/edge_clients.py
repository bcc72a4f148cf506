"""Clients of the demo pair: a text each, and the drafter that follows it.

They draft while the verifier is idle, so that drafting takes none of its time. Knows drafters, sessions and prompts; knows
nothing of what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from benchmarks.prompts import PROMPTS
from benchmarks.targets import demo
from cactus_core.block import Block
from cactus_core.demo_pair import demo_model
from cloud.session import Session
from edge.drafting.onnx_drafter import OnnxDrafter


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a block: at most K paths of L tokens, from laws on at most S tokens."""

    K: int
    L: int
    S: int


def prompts(first: int, count: int) -> list[list[int]]:
    """Token ids of the prompts from the `first`-th on, over again after the last."""
    tokenizer = demo().target.tokenizer
    return [tokenizer(PROMPTS[number % len(PROMPTS)]).input_ids for number in range(first, first + count)]


@cache
def drafter(number: int, support_size: int) -> OnnxDrafter:
    """The `number`-th client's own: it remembers one text."""
    return OnnxDrafter.load(demo_model("draft"), support_size=support_size)


def drafts(sessions: Sequence[Session], shape: Shape) -> list[Block]:
    """Each session's next block."""
    blocks = []
    for number, session in enumerate(sessions):
        # The verifier adds a token of its own, so the last one need not be drafted.
        length = min(shape.L, session.request.max_tokens - session.num_emitted - 1)
        blocks.append(
            drafter(number, shape.S).draft(
                session.text, num_rows=shape.K, length=length, params=session.request.sampling, seed=session.request.seed
            )
        )
    return blocks
