"""Published rules that judge each token of one path by itself, and correct by a law of their own.

None is exact, and none bounds its divergence from the target. Each tells the law of what it emits, so that the ledger can:

    e(y) = p(y)·a(y) + sum_x p(x)·(1 - a(x))·c_x(y)

with a(x) the probability that the drafted token x stands, and c_x the law of what replaces it.
Knows one path of each session; knows nothing of budgets, which these rules do not keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cactus_core.coins import Coins, Floats, Ints, Site
from cactus_core.deciding import correct
from cactus_core.errors import InvalidInput
from cactus_core.paths import DraftedPaths, Verdicts
from cactus_core.relaxing import kl


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """a of the drafted token `[n]`, c `[n, S + 1]`, should it not stand, and e `[n, S + 1]`; the last entries are off the support."""

    accept: Floats
    correction: Floats
    emitted: Floats


class TokenLevel(Protocol):
    def judge(self, drafted: Ints, draft_probs: Floats, target_probs: Floats, target_off: Floats) -> Judgement:
        """Of the token `drafted` `[n]`, by the draft's and the target's laws `[n, S]` and the target's mass off the support `[n]`."""


def decide_token_level(paths: DraftedPaths, rule: TokenLevel, coins: Coins) -> Verdicts:
    """Judge the first path's tokens in turn, up to the first that does not stand. Other paths are not looked at."""
    num_sessions, length = paths.num_sessions, paths.length
    row = np.zeros(num_sessions, dtype=np.int64)
    session, depth = at = np.nonzero(np.arange(length) < paths.lengths[:, None])
    draft, target, target_off = paths.at(session, row[session], depth)
    total = target.sum(-1) + target_off  # 1 but for rounding: it comes from float32
    target, target_off = target / total[:, None], target_off / total
    judgement = rule.judge(paths.proposed[session, row[session], depth], draft, target, target_off)

    accept, owed = np.zeros((num_sessions, length)), np.zeros((num_sessions, length, target.shape[-1] + 1))
    accept[at], owed[at] = judgement.accept, judgement.correction
    stands = coins.flip(accept, Site.ACCEPT, 0)
    accepted = np.asarray(np.logical_and.accumulate(stands, -1).sum(-1), dtype=np.int64)
    divergence = np.zeros((num_sessions, length + 1))
    divergence[at] = kl(judgement.emitted[:, :-1], judgement.emitted[:, -1], target, target_off)
    is_emitted = np.arange(length + 1) <= accepted[:, None]
    return Verdicts(row, accepted, correct(owed, paths, row, accepted, coins), np.where(is_emitted, divergence, 0.0))


_NEWTON_STEPS = 8


@dataclass(frozen=True, slots=True)
class Cactus:
    """Constrained acceptance (Hao and Mou, ICLR 2026, arXiv 2604.04987): the drafted token x is judged by a law h_x that favours it.

    h_x(x) = gamma(q(x)) and the rest of q is scaled to fit; x stands with min(1, gamma/p(x)), or is replaced from (h_x - p)+.
    gamma = min(1, q + sqrt(2·delta·q(1-q))), or (`is_exact`) what that stands for: the greatest gamma with
    KL(Bernoulli(gamma) || Bernoulli(q)) <= delta. Each h_x is near q, but the law of what is emitted is none of them: every
    token is judged by the law that favours it. delta = 0 is speculative sampling.
    """

    delta: float
    is_exact: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.delta < np.inf:
            raise InvalidInput(f"cactus's delta must be 0 or more, not {self.delta}")

    def judge(self, drafted: Ints, draft_probs: Floats, target_probs: Floats, target_off: Floats) -> Judgement:
        """See `TokenLevel`."""
        gamma = self._favoured(target_probs)
        others = np.divide(1.0 - gamma, 1.0 - target_probs, out=np.zeros_like(gamma), where=target_probs < 1.0)
        at = np.arange(len(drafted)), drafted
        draft, favoured, scale = draft_probs[at], gamma[at], others[at]
        owed = np.concatenate([scale[:, None] * target_probs - draft_probs, (scale * target_off)[:, None]], -1)
        owed[at] = favoured - draft
        accept = np.minimum(1.0, np.divide(favoured, draft, out=np.zeros_like(draft), where=draft > 0))
        emitted = _emitted_by_cactus(draft_probs, target_probs, target_off, gamma, others)
        return Judgement(accept, _normalised(np.maximum(owed, 0.0)), emitted)

    def _favoured(self, q: Floats) -> Floats:
        """gamma `[n, S]`."""
        near = q + np.sqrt(2.0 * self.delta * q * (1.0 - q))
        return _greatest_within(self.delta, q, near) if self.is_exact else np.minimum(1.0, near)


def _greatest_within(delta: float, q: Floats, near: Floats) -> Floats:
    """The greatest gamma with KL(Bernoulli(gamma) || Bernoulli(q)) <= delta, by Newton's steps from above, where they only fall."""
    is_free = q >= np.exp(-delta)  # even gamma = 1 costs no more than delta
    is_open = (q > 0) & ~is_free
    q, below_one = np.where(is_open, q, 0.5), np.nextafter(1.0, 0.0)
    logit = np.log(q) - np.log1p(-q)
    gamma = np.minimum(np.where(is_open, np.minimum(near + delta, q + np.sqrt(delta / 2)), q), below_one)
    for _ in range(_NEWTON_STEPS):
        slope = np.log(gamma) - np.log1p(-gamma) - logit
        excess = gamma * slope + np.log1p(-gamma) - np.log1p(-q) - delta
        gamma = np.clip(gamma - np.divide(excess, slope, out=np.zeros_like(q), where=slope > 0), q, gamma)
    return np.where(is_open, gamma, is_free)


def _emitted_by_cactus(p: Floats, q: Floats, q_off: Floats, gamma: Floats, others: Floats) -> Floats:
    """e `[n, S + 1]`, by sorts and running sums: c_x(y) = (k_x·q(y) - p(y))+ / Z_x, k_x the scale of all but x (`others`).

    Where x can be rejected, gamma < p(x), the term of y = x is 0 in either form of h_x. k_x·q(y) exceeds p(y) where k_x
    exceeds p(y)/q(y), so that both Z_x, over y, and e(y), over x, are sums up to a place in an order.
    """
    threshold = np.divide(p, q, out=np.full_like(p, np.inf), where=q > 0)
    lost = np.maximum(p - gamma, 0.0)
    target_below, draft_below = _sums_up_to(threshold, (q, p), others)
    owed = others * (target_below + q_off[:, None]) - draft_below
    per_owed = np.divide(lost, owed, out=np.zeros_like(lost), where=(lost > 0) & (owed > 0))
    scaled, plain = _sums_up_to(-others, (per_owed * others, per_owed), -threshold)
    on = np.minimum(p, gamma) + np.maximum(q * scaled - p * plain, 0.0)
    return np.concatenate([on, (q_off * (per_owed * others).sum(-1))[:, None]], -1)


def _sums_up_to(place: Floats, values: tuple[Floats, Floats], bound: Floats) -> tuple[Floats, ...]:
    """For each `bound` `[n, T]` the sums of the `values` `[n, S]` whose `place` `[n, S]` is at most that."""
    size = place.shape[-1]
    order = np.argsort(np.concatenate([place, bound], -1), axis=-1, kind="stable")
    sums = []
    for each in values:
        running = np.zeros(order.shape)
        running[:, :size] = each
        np.put_along_axis(running, order, np.cumsum(np.take_along_axis(running, order, -1), -1), -1)
        sums.append(running[:, size:])
    return tuple(sums)


@dataclass(frozen=True, slots=True)
class Typical:
    """Typical acceptance (Medusa: Cai et al. 2024): x stands if q(x) > min(threshold, a·exp(-H(q))), a = sqrt(threshold).

    Medusa's own threshold is 0.09. What does not stand is replaced by the target's likeliest token. H is in nats and counts
    the mass off the support as one token; where that exceeds every token's on the support, the replacement is from off it.
    """

    threshold: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise InvalidInput(f"typical's threshold must be between 0 and 1, not {self.threshold}")

    def judge(self, drafted: Ints, draft_probs: Floats, target_probs: Floats, target_off: Floats) -> Judgement:
        """See `TokenLevel`."""
        whole = np.concatenate([target_probs, target_off[:, None]], -1)
        entropy = -(whole * np.log(np.where(whole > 0, whole, 1.0))).sum(-1, keepdims=True)
        bar = np.minimum(self.threshold, np.sqrt(self.threshold) * np.exp(-entropy))
        likeliest = np.zeros_like(whole)
        likeliest[np.arange(len(whole)), whole.argmax(-1)] = 1.0
        return _either(drafted, draft_probs, (target_probs > bar).astype(np.float64), likeliest)


@dataclass(frozen=True, slots=True)
class TopK:
    """x stands if q(x) is no less than the k-th largest of q on the support; or else is replaced from (1[q >= that] - p)+.

    The baseline of the Cactus paper's authors. Tokens off the support never stand, and never come.
    """

    k: float

    def __post_init__(self) -> None:
        if not (self.k >= 1 and float(self.k).is_integer()):
            raise InvalidInput(f"top_k's k must be a whole number of 1 or more, not {self.k}")

    def judge(self, drafted: Ints, draft_probs: Floats, target_probs: Floats, target_off: Floats) -> Judgement:
        """See `TokenLevel`."""
        place = max(target_probs.shape[-1] - int(self.k), 0)
        is_top = (target_probs >= np.sort(target_probs, -1)[:, place : place + 1]).astype(np.float64)
        owed = np.concatenate([np.maximum(is_top - draft_probs, 0.0), np.zeros_like(target_off)[:, None]], -1)
        return _either(drafted, draft_probs, is_top, _normalised(owed))


def _either(drafted: Ints, draft_probs: Floats, accept: Floats, correction: Floats) -> Judgement:
    """Where what replaces a token does not depend on it."""
    emitted = (draft_probs * (1.0 - accept)).sum(-1, keepdims=True) * correction
    emitted[:, :-1] += draft_probs * accept
    return Judgement(accept[np.arange(len(drafted)), drafted], correction, emitted)


def _normalised(owed: Floats) -> Floats:
    """Rows of sum 1, or of 0 where nothing is owed."""
    total = owed.sum(-1, keepdims=True)
    return np.asarray(owed / np.where(total > 0, total, 1.0))
