"""The noise that drafter and verifier share: one Gumbel number for each request, position and token.

Any of it can be had alone, so that an edge makes it for its candidates only. Knows nothing of laws, drafts or trees;
cloud/noise.py is its twin in torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cactus_core.coins import Floats, Site
from cactus_core.noise import uniform

# A coin's counter ends in site << 16 | depth, depths being below 2**16. None is thrown at this site, so none shares a place.
PLACE = Site.GUMBEL << 16
# Stands for 0: the middle of the cell that 53 bits call 0. The other end is 1 - 2**-53, never 1, so all noise is finite.
SMALLEST = 2.0**-54


def gumbel(seeds: ArrayLike, positions: ArrayLike, tokens: ArrayLike) -> Floats:
    """The noise of the requests' 64-bit `seeds` for `tokens` at `positions`; all broadcast together.

    A position is the token's own place in the text, the prompt included: the first drafted token's is the block's base.
    Numbers have 53 random bits and lie between -3.7 and 36.8.
    """
    return np.asarray(-np.log(-np.log(np.maximum(uniform((positions, tokens, 0, PLACE), seeds), SMALLEST))))
