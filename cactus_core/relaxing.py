"""Relaxations: laws near the target's that the drafts serve better.

A relaxation replaces the target's law q by a law h before h is verified exactly. What is emitted is then distributed as
h, and by the chain rule the divergence of a text is the sum of its positions': KL(text) = E sum KL(h_t || q_t).
h may depend on anything that is known before the token is judged (the path so far, how many paths survive, what was
spent): the law of what is emitted is then a mixture of laws each within its bound, and KL is convex, so the bound stands.
Knows one position of n sessions; knows nothing of paths, of verification or of who pays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from cactus_core.coins import Bools, Floats, Ints
from cactus_core.errors import InvalidInput

_BISECTIONS = 26  # of c0, from the side that keeps to the bound: what is left costs no more than 1e-7 of what is served
_LEAST_WEIGHT = 1e-9
_LEAST_PRICE = 0.01
_ROUNDING = 1e-12  # of a divergence: what running sums and a sum may differ by


@dataclass(frozen=True, slots=True, eq=False)
class Relaxed:
    """h on the support `[n, S]` and its mass off it `[n]`, and KL(h || q) `[n]` in nats."""

    target_probs: Floats
    target_off: Floats
    divergence: Floats


# One for all sessions, or one for each of n `[n]`.
Strength = float | Floats


class Relaxation(Protocol):
    @property
    def is_bounded(self) -> bool:
        """Whether the divergence keeps to a bound that the user gave."""

    def of(self, sessions: Ints) -> Relaxation:
        """The relaxation of some of the sessions, in the order of `sessions`."""

    def __call__(self, law: Floats, weight: Floats, target_probs: Floats, target_off: Floats, left: Floats) -> Relaxed:
        """h for the target's law q (`target_probs` `[n, S]`, `target_off` `[n]`) where the drafted token has the law s (`law` `[n, S]`)
        and verification owes the path the `weight` pi `[n]`. Never spends more than `left` `[n]` nats.
        """


class _Clip(NamedTuple):
    """c0 and c1 `[n]`; how many tokens have y above c1, how many have y of c0 or more; whether h has less than a mass of 1, so
    that c0 must rise: where s lies on tokens that the target never takes.
    """

    low: Floats
    high: Floats
    num_cut: Ints
    num_kept: Ints
    is_short: Bools


@dataclass(frozen=True, slots=True)
class Certified:
    """The h that is served most, sum min(s, pi·h), within a divergence from q: h = q·clip(s/(pi·q), c0, c1), c0 <= 1 <= c1.

    The divergence at a position is at most `delta`: KL(h || q) in nats, or (`in_tv`) the total variation. With a `price`
    in the place of `delta`, a nat is spent wherever it brings at least `price` more served mass: c1/c0 = e^(1/price).
    """

    delta: Strength | None = None
    price: Strength | None = None
    in_tv: bool = False

    def __post_init__(self) -> None:
        if (self.delta is None) == (self.price is None):
            raise InvalidInput("a certified relaxation needs either a delta or a price, and not both")
        if self.delta is not None and not np.all(np.asarray(self.delta) >= 0.0):
            raise InvalidInput(f"delta must be 0 or more, not {self.delta}")
        if self.price is not None and not np.all(np.asarray(self.price) >= _LEAST_PRICE):
            raise InvalidInput(f"a price must be at least {_LEAST_PRICE}, not {self.price}: at that, everything is bought")
        if self.price is not None and self.in_tv:
            raise InvalidInput("a price is paid in nats: give a delta for total variation")

    @property
    def is_bounded(self) -> bool:
        """See `Relaxation.is_bounded`. A price alone bounds nothing: it is a budget for the whole response that does."""
        return self.delta is not None

    def of(self, sessions: Ints) -> Certified:
        """See `Relaxation.of`."""
        delta, price = (None if strength is None else _some(strength, sessions) for strength in (self.delta, self.price))
        return Certified(delta, price, self.in_tv)

    def __call__(self, law: Floats, weight: Floats, target_probs: Floats, target_off: Floats, left: Floats) -> Relaxed:
        """See `Relaxation`."""
        target_probs, target_off = _whole(target_probs, target_off)
        scale = np.maximum(weight, _LEAST_WEIGHT) * _mass(law)
        ratio = np.divide(law, scale[:, None] * target_probs, out=np.zeros_like(law), where=target_probs > 0)
        clips = _Clips(ratio, target_probs)
        left, delta = np.maximum(left, 0.0), np.asarray(0.0 if self.delta is None else self.delta)
        if self.price is not None:
            clip = clips.at_spread(np.exp(1.0 / np.asarray(self.price)))
        elif self.in_tv:
            clip = clips.within(clips.tv, np.broadcast_to(delta, left.shape))
        else:
            clip = clips.within(clips.kl, np.minimum(left, delta))
        low, high = clip.low, clip.high
        is_dear = clips.kl(clip) > left  # the ledger is kept in nats, whatever the measure
        if is_dear.any():
            affordable = clips.within(clips.kl, left)
            low, high = np.where(is_dear, affordable.low, low), np.where(is_dear, affordable.high, high)
        return _relaxed(target_probs * np.clip(ratio, low[:, None], high[:, None]), target_off * low, target_probs, target_off, left)


@dataclass(frozen=True, slots=True)
class Interpolated:
    """h = alpha·s + (1 - alpha)·q. Spends what it spends; with a budget that runs out, the target's own law."""

    alpha: Strength

    def __post_init__(self) -> None:
        if not np.all((np.asarray(self.alpha) >= 0.0) & (np.asarray(self.alpha) <= 1.0)):
            raise InvalidInput(f"alpha must be between 0 and 1, not {self.alpha}")

    @property
    def is_bounded(self) -> bool:
        """See `Relaxation.is_bounded`."""
        return False

    def of(self, sessions: Ints) -> Interpolated:
        """See `Relaxation.of`."""
        return Interpolated(_some(self.alpha, sessions))

    def __call__(self, law: Floats, weight: Floats, target_probs: Floats, target_off: Floats, left: Floats) -> Relaxed:
        """See `Relaxation`."""
        target_probs, target_off = _whole(target_probs, target_off)
        alpha = self.alpha * (law.sum(-1) > 0)
        on = (alpha / _mass(law))[:, None] * law + (1.0 - alpha)[:, None] * target_probs
        off = (1.0 - alpha) * target_off
        return _relaxed(on, off, target_probs, target_off, left)


def _some(strength: Strength, sessions: Ints) -> Strength:
    return strength if np.ndim(strength) == 0 else np.asarray(strength)[sessions]


def less(left: Floats, spent: Floats) -> Floats:
    """What is left of a budget; without one, an infinite divergence leaves no less."""
    return np.where(np.isinf(left), left, left - np.where(np.isinf(left), 0.0, spent))


def kl(probs: Floats, off: Floats, target_probs: Floats, target_off: Floats) -> Floats:
    """KL of laws `[n, S]`, with their mass off the support `[n]`, from the target's, in nats `[n]`. What both lack costs nothing.

    Off the support the law must be the target's own up to a factor.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        on = np.where(probs > 0, probs * np.log(probs / target_probs), 0.0).sum(-1)
        beyond = np.where(off > 0, off * np.log(off / target_off), 0.0)
    return np.asarray(np.maximum(on + beyond, 0.0))


def _relaxed(on: Floats, off: Floats, target_probs: Floats, target_off: Floats, left: Floats) -> Relaxed:
    """h normalised, and priced as it is; the target's own law where even rounding would spend more than is `left`."""
    total = on.sum(-1) + off
    on, off = on / total[:, None], off / total
    divergence = kl(on, off, target_probs, target_off)
    is_dear = divergence > left
    on, off = np.where(is_dear[:, None], target_probs, on), np.where(is_dear, target_off, off)
    return Relaxed(on, off, np.where(is_dear, 0.0, divergence))


def _mass(law: Floats) -> Floats:
    """The sum of a law `[n]`: a rule that may follow no path tells one of less than 1, down to nothing."""
    return np.asarray(np.maximum(law.sum(-1), _LEAST_WEIGHT))


def _whole(target_probs: Floats, target_off: Floats) -> tuple[Floats, Floats]:
    """The target's law with a sum of 1 to the last bit: it comes from float32."""
    total = target_probs.sum(-1) + target_off
    return target_probs / total[:, None], target_off / total


class _Clips:
    """Laws h = q·clip(y, c0, c1), by sums over the tokens in order of y, highest first: a look at one costs two counts.

    `y` and `q` `[n, S]`; off the support y is 0. c0 and c1 are `[n]`, c0 <= 1 <= c1, and h has mass 1.
    """

    def __init__(self, y: Floats, q: Floats) -> None:
        order = np.argsort(-y, axis=-1, kind="stable")
        self._y = np.take_along_axis(y, order, -1)
        q = np.take_along_axis(q, order, -1)
        mass = q * self._y
        self._target, self._mass, self._log = _sums(q), _sums(mass), _sums(mass * np.log(np.where(self._y > 0, self._y, 1.0)))
        # What a c1 at each token's y would cut off above it; rises along the order.
        self._cut = self._mass[:, 1:] - self._y * self._target[:, 1:]
        self._one = (self._y >= 1.0).sum(-1)

    def at(self, low: Floats) -> _Clip:
        """The clip from `low` = c0: c1 is where what is cut off above is what h would have too much."""
        num_kept = (self._y >= low[:, None]).sum(-1)
        excess = _pick(self._mass, num_kept) + low * (1.0 - _pick(self._target, num_kept)) - 1.0
        num_cut = np.where(excess > 0, np.maximum((self._cut < excess[:, None]).sum(-1), 1), 0)
        above = _pick(self._target, num_cut)
        high = np.divide(_pick(self._mass, num_cut) - excess, above, out=np.full_like(low, np.inf), where=above > 0)
        return _Clip(low, np.maximum(high, 1.0), num_cut, num_kept, excess < -_ROUNDING)

    def within(self, divergence: Callable[[_Clip], Floats], bound: Floats) -> _Clip:
        """The clip from the lowest c0 at which the divergence is at most `bound` `[n]`."""
        bound = bound - _ROUNDING
        low, high = np.zeros_like(bound), np.ones_like(bound)
        is_free = self._keeps(self.at(low), divergence, bound)
        for _ in range(0 if is_free.all() else _BISECTIONS):
            middle = (low + high) / 2
            fits = self._keeps(self.at(middle), divergence, bound)
            low, high = np.where(fits, low, middle), np.where(fits, middle, high)
        return self.at(np.where(is_free, 0.0, high))

    @staticmethod
    def _keeps(clip: _Clip, divergence: Callable[[_Clip], Floats], bound: Floats) -> Bools:
        return np.asarray(~clip.is_short & (divergence(clip) <= bound))

    def at_spread(self, spread: Strength) -> _Clip:
        """The clip with c1 = c0·`spread`, or with c0 = 0 where even then c1 stays below."""
        low, high = np.zeros(len(self._y)), np.ones(len(self._y))
        for _ in range(_BISECTIONS):  # as c0 rises c1 falls
            middle = (low + high) / 2
            is_wide = self.at(middle).high > middle * spread
            low, high = np.where(is_wide, middle, low), np.where(is_wide, high, middle)
        return self.at(high)

    def kl(self, clip: _Clip) -> Floats:
        """KL(h || q) in nats `[n]`."""
        low, high = np.where(clip.low > 0, clip.low, 1.0), np.where(clip.num_cut > 0, clip.high, 1.0)
        below = clip.low * np.log(low) * (1.0 - _pick(self._target, clip.num_kept))
        above = high * np.log(high) * _pick(self._target, clip.num_cut)
        return np.asarray(below + above + _pick(self._log, clip.num_kept) - _pick(self._log, clip.num_cut))

    def tv(self, clip: _Clip) -> Floats:
        """Total variation between h and q `[n]`: what tokens of y < 1 lose."""
        num_kept = np.maximum(clip.num_kept, self._one)
        target = _pick(self._target, num_kept)
        lost = target - _pick(self._target, self._one) - _pick(self._mass, num_kept) + _pick(self._mass, self._one)
        return np.asarray((1.0 - clip.low) * (1.0 - target) + lost)


def _pick(sums: Floats, count: Ints) -> Floats:
    """One of each row `[n]`; `take_along_axis` takes three times as long."""
    return np.asarray(sums.ravel()[np.arange(0, sums.size, sums.shape[1]) + count])


def _sums(values: Floats) -> Floats:
    """Running sums `[n, S + 1]`, from 0."""
    return np.concatenate([np.zeros_like(values[:, :1]), np.cumsum(values, -1)], -1)
