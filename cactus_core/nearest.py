"""The choosing rule whose law is the nearest to the target's that m drafted paths can have.

**What m paths can have.** Whatever is chosen among m independent draws from p, a set A of tokens is taken at most as often
as it is proposed: s(A) <= 1 - (1-p(A))^m. Every law that keeps to this can be had, by a race (below).

**Nearest.** Order tokens by q/p, highest first, and let P, Q and S be running sums of p, of pi·q and of s. The law keeps to
the bound when S <= g(P), g(P) = 1 - (1-P)^m, and s/p falls along the order. Of all such S the greatest convex function of
Q below g (a string pulled taut under it) makes every sum of q·f(s/q), f concave, as large as it can be, all at once: so
it serves the most of what the target can use, sum min(s, pi·q), and of the laws that do, it is the one of least
divergence (the least majorised base of a polymatroid: Veinott 1971, Fujishige 1980).

**The race.** Each path draws v·W(x) for its token x, v uniform on [0, 1], and the greatest is followed. With levels
c_k rising from 0, B_k = P_k - c_k and W_{k+1}/W_k = (P_k - c_{k+1}) / B_k, the k-th token is taken with

    s_k = p_k · J_k,    J_k = ((1-c_k)^m - (1-c_{k+1})^m) / B_k + (W_{k+1}/W_k) · J_{k+1}

and s_k follows S when the line of S's k-th piece, drawn on to the left, meets g at c_k: S_k - g(c_k) = (s_k/p_k) · (P_k - c_k).
The levels are found by a few steps of Newton's; s is then computed from the levels that are used, so that what the
verifier is told is true to the last bit, and exactness rests on no convergence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cactus_core.choosing import Choice, by_ratio
from cactus_core.coins import Bools, Floats, Ints

_NEWTON_STEPS = 8
_TAUT_SWEEPS = 6
_ROUNDING = 1e-15
_NEXT_TO_NOTHING = 1e-12
_NEVER = -1e9  # the log of a weight beside which every other is infinite: less than any sum of the next over a support
_LEAST_LOG_RATIO = -50.0  # where one token is to come wholly before the next: e^-50 is nothing beside rounding


@dataclass(frozen=True, slots=True, eq=False)
class Race:
    """Each path draws a uniform number times its token's weight; the greatest is followed. `log_weight` is log W `[B, S]`."""

    law: Floats
    log_weight: Floats
    abstains: bool = False

    def odds(self, proposed: Ints, active: Bools) -> Floats:
        """See `Choice.odds`. Of paths in order of W, highest first, the k-th threshold is passed by k of them alike:
        path i is followed with sum over k >= i of (T_k - T_{k+1}) / k, T_k = prod over j <= k of W_k / W_j.
        """
        num_sessions, num_rows = active.shape
        session = np.arange(num_sessions)[:, None]
        weight = np.where(active, self.log_weight[session, proposed], _NEVER)
        order = np.argsort(-weight, axis=-1, kind="stable")
        ordered = weight[session, order]
        ordered -= ordered[:, :1]
        num_above = np.arange(1, num_rows + 1)
        # T and a 0 after it. A path that does not run comes last, behind at least one that does: its T is e^-(very much).
        passed = np.zeros((num_sessions, num_rows + 1))
        np.exp(np.minimum(num_above * ordered - np.cumsum(ordered, -1), 0.0), out=passed[:, :-1])
        each = (passed[:, :-1] - passed[:, 1:]) / num_above
        odds = np.empty_like(each)
        odds[session, order] = np.cumsum(each[:, ::-1], -1)[:, ::-1]
        return np.maximum(odds, 0.0, out=odds)


def nearest(draft_probs: Floats, usable: Floats, num_paths: Ints) -> Choice:
    """The law s nearest to `usable` that `num_paths` draws from p can have, and the race that has it; see the module's page."""
    rows = np.argsort(-num_paths, kind="stable")  # most paths first, for `_power`
    at_least = (num_paths[:, None] > np.arange(num_paths.max())).sum(0).tolist()  # rows with one path or more, with two, ...
    order = by_ratio(draft_probs, usable)
    order += np.arange(0, order.size, order.shape[1])[:, None]  # places in the whole array: rows need not be looked up again
    order = order[rows]
    draft, wanted = draft_probs.ravel()[order], usable.ravel()[order]
    m = num_paths[rows][:, None].astype(np.float64)
    drafted = np.cumsum(draft, -1)
    is_last = np.cumsum(draft[:, ::-1], -1)[:, ::-1] <= draft  # nothing is drafted after it: the sum is 1 but for rounding
    drafted = np.where(is_last, 1.0, np.minimum(drafted, 1.0))
    most = _proposed_once(drafted, m)
    # What the target cannot use comes last in the order and gets what is left, at the bound.
    served = np.where(wanted > 0, _taut(np.cumsum(wanted, -1), most), most)
    levels = _levels(draft, drafted, served, m, at_least)
    law, log_weight = _race(draft, drafted, levels, at_least)
    return Race(_back(law, order), _back(log_weight, order))


def _back(values: Floats, order: Ints) -> Floats:
    """`values` in order put where they come from."""
    by_token = np.empty(values.shape)
    by_token.ravel()[order] = values
    return by_token


def _proposed_once(drafted: Floats, m: Floats) -> Floats:
    """g(P) = 1 - (1-P)^m, to full precision where P is small."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(m * np.log1p(-drafted)))


def _taut(x: Floats, y: Floats) -> Floats:
    """The greatest convex function under (0, 0) and the points (`x`, `y`) `[B, S]`, at `x`, which ascends in each row.

    Quickhull: of the points between two known vertices the lowest under their chord is a vertex too; a sweep finds one in
    every gap. What still lies under a chord after the sweeps becomes a vertex as it is: a string that is not quite taut,
    but one that the paths can follow.
    """
    shape = (len(x), x.shape[1] + 1)
    is_vertex = np.zeros(shape, dtype=np.bool_)
    is_vertex[:, 0] = is_vertex[:, -1] = True
    flat_x, flat_y, is_vertex = _from_origin(x), _from_origin(y), is_vertex.ravel()
    for sweep in range(_TAUT_SWEEPS + 1):
        vertices = is_vertex.nonzero()[0]
        length = np.empty_like(vertices)
        np.subtract(vertices[1:], vertices[:-1], out=length[:-1])
        length[-1] = 1
        chords = _chords(flat_x, flat_y, vertices, length)
        under = flat_y - chords
        lowest = np.minimum.reduceat(under, vertices)
        if sweep == _TAUT_SWEEPS or lowest.min() >= -_ROUNDING:
            break
        is_vertex |= under < -_ROUNDING if sweep == _TAUT_SWEEPS - 1 else under <= np.minimum(lowest, -_ROUNDING).repeat(length)
    return chords.reshape(shape)[:, 1:]


def _from_origin(values: Floats) -> Floats:
    """Rows with a 0 before them, one after the other."""
    rows = np.zeros((len(values), values.shape[1] + 1))
    rows[:, 1:] = values
    return rows.ravel()


def _chords(x: Floats, y: Floats, vertices: Ints, length: Ints) -> Floats:
    """At every point the line through the `vertices` (places, each row's first and last among them) on either side of it."""
    x0, y0 = x[vertices], y[vertices]
    slope = np.zeros(len(vertices))  # from a row's last vertex on there is nothing
    run = x0[1:] - x0[:-1]
    np.divide(y0[1:] - y0[:-1], run, out=slope[:-1], where=run > 0)
    y0 -= slope * x0
    chords = slope.repeat(length)
    chords *= x
    chords += y0.repeat(length)
    return chords


def _levels(draft: Floats, drafted: Floats, served: Floats, m: Floats, at_least: list[int]) -> Floats:
    """c `[B, S]`: where the line of each piece of S meets g, left of the piece; 0 at first, never falling, never beyond P_{k-1}."""
    # A slope over next to nothing is noise; such a token joins with those before it.
    slope = served.copy()
    slope[:, 1:] -= served[:, :-1]
    is_much = draft > _NEXT_TO_NOTHING
    np.divide(slope, draft, out=slope, where=is_much)
    np.copyto(slope, np.inf, where=~is_much)
    np.minimum(slope, m, out=slope)
    # In u = 1 - c: g is concave, so that from u = 1 the steps only fall, and never past the meeting.
    offset = served - slope * drafted + slope - 1.0
    left, power = np.ones_like(draft), np.ones_like(draft)
    for _ in range(_NEWTON_STEPS):
        missing = power - slope
        missing *= left
        missing += offset
        np.maximum(missing, 0.0, out=missing)
        steepness = m * power
        steepness -= slope
        np.copyto(steepness, np.inf, where=steepness <= _NEXT_TO_NOTHING)
        missing /= steepness
        left -= missing
        np.maximum(left, 0.0, out=left)
        power = _power(left, at_least[1:])
    level = np.maximum.accumulate(1.0 - left, -1)
    level[:, 0] = 0.0
    np.minimum(level[:, 1:], drafted[:, :-1], out=level[:, 1:])
    return np.asarray(level)


def _power(left: Floats, num_rows: list[int]) -> Floats:
    """u^n, where n is a whole number that falls from row to row: the first `num_rows[i]` rows are multiplied by u once more.

    Few products take a fraction of the time that a logarithm and an exponential do.
    """
    power = np.ones(left.shape)
    for num in num_rows:
        power[:num] *= left[:num]
    return power


def _race(draft: Floats, drafted: Floats, levels: Floats, at_least: list[int]) -> tuple[Floats, Floats]:
    """The law s and log W `[B, S]` of the race with these levels."""
    group = drafted - levels
    is_group = group > 0
    total = _power(1.0 - levels, at_least)
    total[:, :-1] -= total[:, 1:]
    np.divide(total, group, out=total, where=is_group)
    np.copyto(total, 0.0, where=~is_group)
    ratio = np.ones(group.shape)
    np.divide(drafted[:, :-1] - levels[:, 1:], group[:, :-1], out=ratio[:, :-1], where=is_group[:, :-1])
    np.clip(ratio, np.exp(_LEAST_LOG_RATIO), 1.0, out=ratio)
    log_weight = np.zeros(group.shape)
    np.cumsum(np.log(ratio[:, :-1]), -1, out=log_weight[:, 1:])
    ratio[:, -1] = 0.0
    reach = 1
    while reach < total.shape[1]:  # J = total + ratio · next J, for all tokens at once: each pass doubles how far it has summed
        total[:, :-reach] += ratio[:, :-reach] * total[:, reach:]
        ratio[:, :-reach] *= ratio[:, reach:]
        ratio[:, -reach:] = 0.0
        reach *= 2
    return draft * total, log_weight
