"""Verifying the chosen path: how many of its tokens stand, and what the target still owes.

Knows the chosen path, its true law s and the target's law q; knows nothing of how the path was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cactus_core.coins import Coins, Floats, Ints, Site


@dataclass(frozen=True, slots=True)
class Verification:
    """How a path is verified. With `carries` what one token lacks another can make good: the path's weight pi goes from token
    to token; without, each token is judged alone, and pi is 1 everywhere.

    `accepted_length(weights [B, L + 1], owed [B, L], lengths [B], coins) -> [B]`: how many tokens of each path stand.
    `weights` are pi after each token (1 at first), `owed` the total of the residual at each length, lengths <= L.
    """

    name: str
    carries: bool
    accepted_length: Callable[[Floats, Floats, Ints, Coins], Ints]


def path_weight(weight: Floats, target_prob: Floats, chosen_prob: Floats) -> Floats:
    """pi after one more token: min(1, pi · q(x) / s(x)), all `[B]`; 0 where s is: a token that is never taken owes nothing."""
    ratio = np.divide(weight * target_prob, chosen_prob, out=np.zeros_like(weight), where=chosen_prob > 0)
    return np.minimum(1.0, ratio)


def residual(weight: Floats, target_probs: Floats, target_off: Floats, chosen_law: Floats) -> Floats:
    """What the target still owes after the chosen law has given its part: max(pi·q - s, 0).

    `weight` pi `[...]`, `target_probs` q and `chosen_law` s `[..., S]` on the support, `target_off` `[...]` the target's mass
    off it. Returns `[..., S + 1]`, the last entry standing for all tokens off the support.
    """
    owed = np.empty((*target_probs.shape[:-1], target_probs.shape[-1] + 1))
    np.multiply(weight[..., None], target_probs, out=owed[..., :-1])
    owed[..., :-1] -= chosen_law
    owed[..., -1] = weight * target_off
    return np.maximum(owed, 0.0, out=owed)


def _longest_accepted(weights: Floats, owed: Floats, lengths: Ints, coins: Coins) -> Ints:
    """The longest accepted length: i < lengths is accepted with probability R_i / (R_i + 1 - pi_i), the full length with pi."""
    depth = np.arange(weights.shape[1])[None, :]
    denominator = owed + (1.0 - weights[:, :-1])  # in this order: both are small where the models agree
    partial = np.divide(owed, denominator, out=np.ones_like(owed), where=denominator > 0)
    partial = np.concatenate([partial, np.zeros_like(weights[:, :1])], -1)
    probability = np.where(depth == lengths[:, None], weights, np.where(depth < lengths[:, None], partial, 0.0))
    probability[:, 0] = 1.0
    stands = coins.flip(probability, Site.ACCEPT, 0)
    return np.asarray(np.where(stands, depth, 0).max(-1), dtype=np.int64)


def _accepted_in_turn(weights: Floats, owed: Floats, lengths: Ints, coins: Coins) -> Ints:
    """Each token is accepted with its own weight, up to the first that is not."""
    place = np.arange(1, weights.shape[1])[None, :]
    stands = coins.flip(np.where(place <= lengths[:, None], weights[:, 1:], 0.0), Site.ACCEPT, 0)
    return np.asarray(np.logical_and.accumulate(stands, -1).sum(-1), dtype=np.int64)


# Sun et al. 2024, "Block verification accelerates speculative decoding", with the chosen law s in the draft's place.
BLOCK = Verification("block", carries=True, accepted_length=_longest_accepted)
# Leviathan et al. 2022 and Chen et al. 2023, "speculative sampling", with s in the draft's place: accept x with min(1, q/s).
TOKEN = Verification("token", carries=False, accepted_length=_accepted_in_turn)
