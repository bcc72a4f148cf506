"""What a simulated deployment brought, in the figures that plans are compared by.

Knows figures; knows nothing of how they came about.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.planning.configuration import Way


@dataclass(frozen=True, slots=True)
class Outcome:
    """`tokens_per_s` is of all clients together. A time per token is from one decision to the next, shared among its tokens, as
    `cactus simulate` counts it; `verifier_s_per_token` counts only time in steps, and `load` is its share of all time.
    """

    way: Way
    num_clients: int
    tokens_per_s: float
    time_per_token_s_p50: float
    time_per_token_s_p95: float
    tokens_per_decision: float
    verifier_s_per_token: float
    joules_per_token: float
    up_bytes_per_token: float
    load: float
