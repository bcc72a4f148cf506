"""A verifier, as far as its steps' time goes.

Knows numbers; knows nothing of models or of how a step is made up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cactus_core.errors import InvalidInput
from cluster.planning.cost_table import CostTable

_PROBED = 16  # tokens: what `cloud/step_cost.py` measures with


@dataclass(frozen=True, slots=True)
class VerifierProfile:
    """A step of n tokens of B sessions takes `forward_s` at n and `session_s` times B, and no less than `step_at_least_s`. It reads
    `token_budget` tokens at the most. `draft_forward_s`, where a draft could run beside the target, is a forward of it by how many
    sessions it drafts for. Raises `InvalidInput`.
    """

    name: str
    forward_s: dict[int, float]
    session_s: float = 0.0
    step_at_least_s: float = 0.0
    token_budget: int = 2048
    draft_forward_s: dict[int, float] | None = None
    description: str = ""
    forward: CostTable = field(init=False, repr=False)
    draft_forward: CostTable | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for what, value in (("session_s", self.session_s), ("step_at_least_s", self.step_at_least_s)):
            if not 0.0 <= value < math.inf:
                raise InvalidInput(f"{what} of a verifier must be 0 or more seconds, not {value}")
        if self.token_budget < 1:
            raise InvalidInput(f"token_budget of a verifier must be at least 1, not {self.token_budget}")
        object.__setattr__(self, "forward", CostTable("forward_s", self.forward_s))
        if not self.step_s(1, 1):
            raise InvalidInput("a step of this verifier takes no time; give forward_s what was measured")
        drafts = self.draft_forward_s
        object.__setattr__(self, "draft_forward", None if drafts is None else CostTable("draft_forward_s", drafts))

    def step_s(self, num_tokens: int, num_sessions: int) -> float:
        return max(self.step_at_least_s, self.forward.at(num_tokens) + self.session_s * num_sessions)

    @property
    def num_free_tokens(self) -> float:
        """How many tokens take as long to read as a step takes anyway: within it the cloud decodes also where an edge is drafting."""
        per_token = max((self.forward.at(1 + _PROBED) - self.forward.at(1)) / _PROBED, 1e-9)
        return max(0.0, max(self.forward.at(1), self.step_at_least_s) / per_token - 1.0)
