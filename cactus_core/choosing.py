"""Choosing which of K drafted paths to follow, one token at a time.

A choosing rule takes one of the m next tokens that the surviving paths propose and says the law s of what it took.
Block verification is exact for any draft law that it is told truly, so a rule is right when its s is.
Knows one position of B sessions; knows nothing of lengths, of acceptance or of what came before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cactus_core.coins import Bools, Coins, Floats, Ints, Site

_SWEEPS = 8

# (draft_probs [B, S], target_probs [B, S], weight [B], proposed [B, K], active [B, K], coins, depth) -> (taken [B], law [B, S])
Choosing = Callable[[Floats, Floats, Floats, Ints, Bools, Coins, int], tuple[Ints, Floats]]


def quota(
    draft_probs: Floats, target_probs: Floats, weight: Floats, proposed: Ints, active: Bools, coins: Coins, depth: int
) -> tuple[Ints, Floats]:
    """Take the token the target is most short of, but never more often than the target can use.

    `draft_probs` p and `target_probs` q `[B, S]` are laws on the support at this prefix, `weight` pi `[B]` is what block
    verification still owes the path, `proposed` `[B, K]` are the paths' next tokens as indices into the support and
    `active` `[B, K]` says which paths survive, at least one. Returns the taken index `[B]` and its law s `[B, S]`.

    Tokens are walked in order of q/p, highest first. With c the sum of p·b over those before, token x is available with
    probability (1-c)^m - (1-c-p(x))^m; its quota a(x) is the smaller of that and pi·q(x), and b(x) is the share of its
    draws that are flagged so that it is met. A flagged token earliest in the order is taken; without one, the first
    path's. So s(x) = a(x) + (1-C)^m · p(x)(1-b(x)) / (1-C), with C the sum of p·b over all.
    """
    num_paths = active.sum(-1)
    share, flagged_law, unflagged_left, rank = _shares(draft_probs, weight[:, None] * target_probs, num_paths)
    flags = coins.flip(np.where(active, np.take_along_axis(share, proposed, -1), 0.0), Site.CHOOSE, depth)
    proposed_rank = np.where(flags, np.take_along_axis(rank, proposed, -1), rank.shape[-1])
    path = np.where(flags.any(-1), proposed_rank.argmin(-1), active.argmax(-1))
    taken = np.take_along_axis(proposed, path[:, None], -1)[:, 0]
    unflagged_share = np.where(unflagged_left > 0, unflagged_left ** (num_paths - 1.0), 0.0)
    law = flagged_law + unflagged_share[:, None] * draft_probs * (1.0 - share)
    return taken, law


def _shares(draft_probs: Floats, usable: Floats, num_paths: Ints) -> tuple[Floats, Floats, Floats, Ints]:
    """The quota rule's b and the flagged part of the law, both `[B, S]`, 1-C `[B]`, and each token's place in the order `[B, S]`.

    b(x) depends on c, which is made of the b before it: it is solved for all tokens at once, again and again, each sweep
    with the c of the one before. What sweeps leave unsolved costs a little acceptance (under 1e-6 after eight) and no
    exactness: the law is computed from the b that is used, so that what the verifier is told is true to the last bit.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(draft_probs > 0, usable / draft_probs, -1.0)
    order = np.argsort(-ratio, axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[-1])[None, :], -1)
    draft, wanted = np.take_along_axis(draft_probs, order, -1), np.take_along_axis(usable, order, -1)
    divisor, is_real = np.where(draft > 0, draft, 1.0), draft > 0
    m = num_paths[:, None].astype(np.float64)

    share = np.where(is_real, np.clip(wanted / (divisor * m), 0.0, 1.0), 0.0)
    for _ in range(_SWEEPS if num_paths.max() > 1 else 1):  # a single path is solved in one
        left_before, _ = _left(draft * share)
        unmet = np.maximum(left_before**m - wanted, 0.0) ** (1.0 / m)
        share = np.where(is_real, np.clip((left_before - unmet) / divisor, 0.0, 1.0), 0.0)
    left_before, left_after = _left(draft * share)
    flagged = left_before**m - left_after**m
    return np.take_along_axis(share, rank, -1), np.take_along_axis(flagged, rank, -1), left_after[:, -1], rank


def _left(taken: Floats) -> tuple[Floats, Floats]:
    """1 - c before and after each token, `[B, S]`, where `taken` is each token's p·b."""
    after = np.maximum(1.0 - np.cumsum(taken, -1), 0.0)
    return np.concatenate([np.ones_like(after[:, :1]), after[:, :-1]], -1), after
