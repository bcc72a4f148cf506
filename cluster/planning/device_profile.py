"""An edge's device, as far as drafting on it goes: how long a tree takes, and what that and sending it take of a battery.

Knows numbers; knows nothing of how they were measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cactus_core.errors import InvalidInput
from cluster.planning.cost_table import CostTable


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """`draft_s` is how long trees of so many nodes take on average, each drafted anew, and `draft_spread` how much they differ, as a share
    of it (standard deviation). `draft_w` is what the device draws more while it drafts, `idle_w` what a request that waits costs, `byte_j`
    what the radio takes a byte. Raises `InvalidInput`.
    """

    name: str
    draft_s: dict[int, float]
    draft_spread: float = 0.0
    draft_w: float = 2.0
    idle_w: float = 0.3
    byte_j: float = 5e-6
    description: str = ""
    drafting: CostTable = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for what, value in (
            ("draft_spread", self.draft_spread),
            ("draft_w", self.draft_w),
            ("idle_w", self.idle_w),
            ("byte_j", self.byte_j),
        ):
            if not 0.0 <= value < math.inf:
                raise InvalidInput(f"{what} of a device must be 0 or more, not {value}")
        object.__setattr__(self, "drafting", CostTable("draft_s", self.draft_s))
