"""What befalls a link in the course of a run, all of it known before: other profiles, and cuts.

Knows times and profiles; knows nothing of the link that follows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cactus_core.errors import InvalidInput
from cluster.link_profile import LinkProfile


@dataclass(frozen=True, slots=True)
class LinkTrace:
    """`steps` are moments with the profile that the link has from then on, `cuts_s` the moments when all connections are reset.

    Moments are seconds since the link was entered, in any order. Raises `InvalidInput` for one that cannot come.
    """

    steps: tuple[tuple[float, LinkProfile], ...] = ()
    cuts_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for at_s in (*(at_s for at_s, _ in self.steps), *self.cuts_s):
            if not 0.0 <= at_s < math.inf:
                raise InvalidInput(f"a link's trace takes moments of 0 or more seconds, not {at_s}")


def random_moments(num_moments: int, within_s: float, seed: int) -> tuple[float, ...]:
    """As many moments, evenly drawn from `[0, within_s)` and in order. The same seed draws the same ones."""
    return tuple(sorted(np.random.default_rng(seed).uniform(0.0, within_s, num_moments).tolist()))
