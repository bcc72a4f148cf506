"""Verifying the chosen path as a block (Sun et al. 2024, "Block verification accelerates speculative decoding").

Knows the chosen path, its true law s and the target's law q; knows nothing of how the path was chosen.
"""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Coins, Floats, Ints, Site


def path_weight(weight: Floats, target_prob: Floats, chosen_prob: Floats) -> Floats:
    """pi after one more token: min(1, pi · q(x) / s(x)), all `[B]`. `chosen_prob` is positive: the token was taken."""
    return np.minimum(1.0, weight * target_prob / chosen_prob)


def residual(weight: Floats, target_probs: Floats, target_off: Floats, chosen_law: Floats) -> Floats:
    """What the target still owes after the chosen law has given its part: max(pi·q - s, 0).

    `weight` pi `[...]`, `target_probs` q and `chosen_law` s `[..., S]` on the support, `target_off` `[...]` the target's mass
    off it. Returns `[..., S + 1]`, the last entry standing for all tokens off the support.
    """
    on = np.maximum(weight[..., None] * target_probs - chosen_law, 0.0)
    return np.concatenate([on, (weight * target_off)[..., None]], -1)


def accepted_length(weights: Floats, owed: Floats, lengths: Ints, coins: Coins) -> Ints:
    """How many tokens of each path stand: the longest accepted length.

    `weights` pi `[B, L + 1]` with pi_0 = 1, `owed` R `[B, L]` the total of the residual at each length, `lengths` `[B]` <= L.
    Length i < lengths is accepted with probability R_i / (R_i + 1 - pi_i), the full length with pi. Length 0 always is.
    """
    depth = np.arange(weights.shape[1])[None, :]
    denominator = owed + 1.0 - weights[:, :-1]
    partial = np.divide(owed, denominator, out=np.ones_like(owed), where=denominator > 0)
    partial = np.concatenate([partial, np.zeros_like(weights[:, :1])], -1)
    probability = np.where(depth == lengths[:, None], weights, np.where(depth < lengths[:, None], partial, 0.0))
    probability[:, 0] = 1.0
    stands = coins.flip(probability, Site.ACCEPT, 0)
    return np.asarray(np.where(stands, depth, 0).max(-1), dtype=np.int64)
