"""Choosing which of K drafted paths to follow, one token at a time.

A choosing rule takes one of the m next tokens that the surviving paths propose and says the law s of what it took.
Block verification is exact for any draft law that it is told truly, so a rule is right when its s is.
Knows one position of B sessions; knows nothing of lengths, of acceptance or of what came before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cactus_core.coins import Bools, Coins, Floats, Ints, Site

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
    """The quota rule's b and flagged part of the law, both `[B, S]`, 1-C `[B]`, and each token's place in the order `[B, S]`.

    The flagged part is computed from the b that is used, not from the quota it was solved for, so that the law told to
    the verifier is true to the last bit of rounding.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(draft_probs > 0, usable / draft_probs, -1.0)
    order = np.argsort(-ratio, axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[-1])[None, :], -1)

    # One path left: a(x) = min(pi·q(x), p(x)), whatever the order.
    share = np.clip(ratio, 0.0, 1.0)
    flagged = draft_probs * share
    left = np.maximum(1.0 - flagged.sum(-1), 0.0)

    several = np.flatnonzero(num_paths > 1)
    if several.size:
        walk = order[several]
        walked = _walk(
            np.take_along_axis(draft_probs[several], walk, -1), np.take_along_axis(usable[several], walk, -1), num_paths[several]
        )
        share_several, flagged_several, left[several] = walked
        share[several] = np.take_along_axis(share_several, rank[several], -1)
        flagged[several] = np.take_along_axis(flagged_several, rank[several], -1)
    return share, flagged, left, rank


def _walk(draft_probs: Floats, usable: Floats, num_paths: Ints) -> tuple[Floats, Floats, Floats]:
    """`_shares` for tokens already in order. The walk is over ranks, for all sessions at once: each step needs the one before."""
    exponent = num_paths.astype(np.float64)
    share, flagged = np.zeros_like(draft_probs), np.zeros_like(draft_probs)
    left = np.ones(len(draft_probs))  # 1 - c
    before = np.ones_like(left)  # (1 - c)^m
    for x in range(int((draft_probs > 0).any(0).sum())):
        p = draft_probs[:, x]
        rest = np.maximum(left - p, 0.0)
        met = np.maximum(before - usable[:, x], 0.0) ** (1.0 / exponent)
        with np.errstate(divide="ignore", invalid="ignore"):
            share[:, x] = np.where(p > 0, np.clip((left - np.maximum(met, rest)) / p, 0.0, 1.0), 0.0)
        left = np.maximum(left - p * share[:, x], 0.0)
        after = left**exponent
        flagged[:, x] = before - after
        before = after
    return share, flagged, left
