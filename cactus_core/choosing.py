"""Choosing which of K drafted paths to follow, one token at a time.

A choosing rule says how one of the m next tokens that the surviving paths propose is taken, and the law s of what is
taken. Verification is exact for any draft law that it is told truly, so a rule is right when its s is.
Knows one position of B sessions; knows nothing of lengths, of acceptance or of what came before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cactus_core.coins import Bools, Floats, Ints


class Choice(Protocol):
    """How a token is taken at one prefix of each of B sessions. `law` `[B, S]` is s, the law of the token that is taken."""

    @property
    def law(self) -> Floats: ...

    @property
    def abstains(self) -> bool:
        """Whether it may follow no path."""

    def odds(self, proposed: Ints, active: Bools) -> Floats:
        """`[B, K]`: with which probability each path is followed, given the tokens `proposed` `[B, K]` (indices into the
        support) of the paths that survive, `active` `[B, K]`. Where it `abstains`, what a row lacks to 1 is the probability
        that none is; s then lacks it too.
        """


# (draft_probs p [B, S], usable [B, S], num_paths m [B] >= 1). `usable` is what the target can still use of each token: pi·q,
# with pi the weight that verification owes the path. Tokens are drawn from p; their order carries nothing.
Choosing = Callable[[Floats, Floats, Ints], Choice]


@dataclass(frozen=True, slots=True, eq=False)
class Flagging:
    """Each proposed token is flagged with the probability `share` `[B, S]`. Of the flagged the one of lowest `rank` `[B, S]` is
    taken (None: the first path's); without one, the first path's token, or (`abstains`) none.
    """

    law: Floats
    share: Floats
    rank: Ints | None
    abstains: bool = False

    def odds(self, proposed: Ints, active: Bools) -> Floats:
        """See `Choice.odds`: the product of what those before it are not, times what it is."""
        flagged = np.where(active, np.take_along_axis(self.share, proposed, -1), 0.0)
        if self.rank is None:
            order = np.broadcast_to(np.arange(active.shape[1]), active.shape)
        else:
            order = np.argsort(np.where(active, np.take_along_axis(self.rank, proposed, -1), self.share.shape[-1]), axis=-1, kind="stable")
        ordered = np.take_along_axis(flagged, order, -1)
        unflagged = np.cumprod(1.0 - ordered, -1)
        odds = np.empty_like(ordered)
        np.put_along_axis(odds, order, ordered * np.concatenate([np.ones_like(ordered[:, :1]), unflagged[:, :-1]], -1), -1)
        if not self.abstains:
            odds[np.arange(len(odds)), active.argmax(-1)] += unflagged[:, -1]
        return odds


def first(draft_probs: Floats, usable: Floats, num_paths: Ints) -> Choice:
    """Follow the first path, whatever the others propose: s = p."""
    return Flagging(draft_probs, np.zeros_like(draft_probs), None)


def ranked(draft_probs: Floats, usable: Floats, num_paths: Ints) -> Choice:
    """Follow the token of highest q/p (greedy multi-path: Thomas and Pal 2026, arXiv 2602.16961).

    With P the draft's mass of the tokens before x in that order, s(x) = (1-P)^m - (1-P-p(x))^m.
    """
    order = by_ratio(draft_probs, usable)
    rank = ranks(order)
    left_before, left_after = _left(np.take_along_axis(draft_probs, order, -1))
    m = num_paths[:, None].astype(np.float64)
    law = np.take_along_axis(left_before**m - left_after**m, rank, -1)
    return Flagging(law, (draft_probs > 0).astype(np.float64), rank)


def kseq(draft_probs: Floats, usable: Floats, num_paths: Ints) -> Choice:
    """Flag each token with probability min(1, usable / (rho·p)) and take the first (SpecTr's K-SEQ: Sun et al. 2023, Algorithm 2).

    rho >= 1 is the least at which no token is served more than the target can use: 1 - (1-beta)^m = rho·beta with
    beta = sum min(p, usable/rho). Without a flag the first path is followed, and verification may still accept it.
    """
    share, flagged_law, unflagged_left = _kseq_share(draft_probs, usable, num_paths)
    return Flagging(flagged_law + _unflagged_law(draft_probs, share, unflagged_left, num_paths), share, None)


def kseq_or_none(draft_probs: Floats, usable: Floats, num_paths: Ints) -> Choice:
    """K-SEQ as published: without a flag no path is followed."""
    share, flagged_law, _ = _kseq_share(draft_probs, usable, num_paths)
    return Flagging(flagged_law, share, None, abstains=True)


def quota(draft_probs: Floats, usable: Floats, num_paths: Ints) -> Choice:
    """Take the token the target is most short of, but never more often than the target can use.

    Tokens are walked in order of q/p, highest first. With c the sum of p·b over those before, token x is available with
    probability (1-c)^m - (1-c-p(x))^m; its quota a(x) is the smaller of that and pi·q(x), and b(x) is the share of its
    draws that are flagged so that it is met. A flagged token earliest in the order is taken; without one, the first
    path's. So s(x) = a(x) + (1-C)^m · p(x)(1-b(x)) / (1-C), with C the sum of p·b over all.
    """
    order = by_ratio(draft_probs, usable)
    rank = ranks(order)
    draft, wanted = np.take_along_axis(draft_probs, order, -1), np.take_along_axis(usable, order, -1)
    share, flagged_law, unflagged_left = _quota_share(draft, wanted, num_paths)
    law = np.take_along_axis(flagged_law + _unflagged_law(draft, share, unflagged_left, num_paths), rank, -1)
    return Flagging(law, np.take_along_axis(share, rank, -1), rank)


def by_ratio(draft_probs: Floats, usable: Floats) -> Ints:
    """The order of the tokens `[B, S]` by usable/p: highest first, and what is never drafted last."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.argsort(np.where(draft_probs > 0, -usable / draft_probs, 1.0), axis=-1, kind="stable"))


def ranks(order: Ints) -> Ints:
    """Each token's place in `order` `[B, S]`."""
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(order.shape[-1]), order.shape), -1)
    return rank


_SWEEPS = 8
_BISECTIONS = 40


def _quota_share(draft: Floats, wanted: Floats, num_paths: Ints) -> tuple[Floats, Floats, Floats]:
    """The quota rule's b and the flagged part of the law, both `[B, S]` in order, and 1-C `[B]`.

    b(x) depends on c, which is made of the b before it: it is solved for all tokens at once, again and again, each sweep
    with the c of the one before. What sweeps leave unsolved costs a little acceptance (under 1e-6 after eight) and no
    exactness: the law is computed from the b that is used, so that what the verifier is told is true to the last bit.
    """
    divisor, is_real = np.where(draft > 0, draft, 1.0), draft > 0
    m = num_paths[:, None].astype(np.float64)
    share = np.where(is_real, np.clip(wanted / (divisor * m), 0.0, 1.0), 0.0)
    for _ in range(_SWEEPS):
        left_before, _ = _left(draft * share)
        unmet = np.maximum(left_before**m - wanted, 0.0) ** (1.0 / m)
        share = np.where(is_real, np.clip((left_before - unmet) / divisor, 0.0, 1.0), 0.0)
    left_before, left_after = _left(draft * share)
    return share, left_before**m - left_after**m, left_after[:, -1]


def _kseq_share(draft: Floats, usable: Floats, num_paths: Ints) -> tuple[Floats, Floats, Floats]:
    """K-SEQ's b = min(1, usable / (rho·p)) and the flagged part of the law, both `[B, S]`, and 1-C `[B]`; rho is found by bisection
    between 1 and m, from above.
    """
    low, high = np.ones(len(draft)), num_paths.astype(np.float64)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        beta = np.minimum(draft, usable / middle[:, None]).sum(-1)
        is_enough = 1.0 - np.maximum(1.0 - beta, 0.0) ** num_paths <= middle * beta
        low, high = np.where(is_enough, low, middle), np.where(is_enough, middle, high)
    share = np.minimum(1.0, np.divide(usable, high[:, None] * draft, out=np.zeros_like(draft), where=draft > 0))
    flagged = draft * share
    unflagged_left = np.maximum(1.0 - flagged.sum(-1), 0.0)
    return share, _times_per_flag(unflagged_left, num_paths)[:, None] * flagged, unflagged_left


def _times_per_flag(unflagged_left: Floats, num_paths: Ints) -> Floats:
    """(1 - (1-C)^m) / C `[B]`: how much likelier than p·b a token is to be the first flagged of m; m where C = 0."""
    flagged = 1.0 - unflagged_left
    return np.asarray(np.divide(1.0 - unflagged_left**num_paths, flagged, out=num_paths.astype(np.float64), where=flagged > 0))


def _unflagged_law(draft: Floats, share: Floats, unflagged_left: Floats, num_paths: Ints) -> Floats:
    """(1-C)^m · p(1-b) / (1-C) `[B, S]`: the law of the first path's token where none is flagged, times that none is."""
    per_draw = np.where(unflagged_left > 0, unflagged_left ** (num_paths - 1.0), 0.0)
    return np.asarray(per_draw[:, None] * draft * (1.0 - share))


def _left(taken: Floats) -> tuple[Floats, Floats]:
    """1 - c before and after each token, `[B, S]`, where `taken` is each token's p·b."""
    after = np.maximum(1.0 - np.cumsum(taken, -1), 0.0)
    return np.concatenate([np.ones_like(after[:, :1]), after[:, :-1]], -1), after
