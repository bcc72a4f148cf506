"""How an edge is to draft: what a tuner chooses, or a caller fixes.

Knows sizes and waits; knows nothing of why they were chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cactus_core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class RowsPlan:
    """Of the rejection family: `num_rows` paths of `length` tokens a round."""

    num_rows: int
    length: int

    def __post_init__(self) -> None:
        if min(self.num_rows, self.length) < 0:
            raise InvalidInput(f"a block cannot have {self.num_rows} rows of {self.length} tokens")


@dataclass(frozen=True, slots=True)
class TreePlan:
    """Of the coupled family: trees of `num_nodes`, at most `max_depth` deep, and how long the cloud then waits for each before it
    decodes by itself. No nodes: the cloud decodes alone.
    """

    num_nodes: int
    max_depth: int
    wait_s: float

    def __post_init__(self) -> None:
        if min(self.num_nodes, self.max_depth) < 0 or not self.wait_s >= 0.0:
            raise InvalidInput(f"a tree cannot have {self.num_nodes} nodes, {self.max_depth} deep, waited for {self.wait_s} s")

    @property
    def mode(self) -> str:
        """As people call it: off, wait (a tree a step), or stream (the cloud decodes on in the gaps)."""
        if not self.num_nodes:
            return "off"
        return "wait" if self.wait_s > 0.0 else "stream"


OFF = TreePlan(0, 0, 0.0)
FOR_EACH = math.inf  # a wait that only a tree ends
DEEPEST = 32  # what a verifier takes, by default
