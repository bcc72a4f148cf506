"""Traversal verification (Weng et al. 2025, arXiv 2505.12398): the tree of paths is judged from its leaves to its root.

A node has a weight rho, the law r of what the target still owes after it, the law d that its next untried child is drawn
from, and rows to come. The first row's token x makes a child of weight min(1, rho·r(x)/d(x)), with laws q and p of its
own. A leaf stands with its weight. Where nothing below a child stands, with R = sum (rho·r - d)+, its parent goes on with

    r <- (rho·r - d)+ / R        rho <- R / (R + 1 - rho)        d <- d without x, normalised

since given x and the rows that share it the others are drawn from that. A node without rows left stands with its weight,
and the round ends with a token from r. The root's weight stays 1.

Depth first, each row goes down from where it parts from the one before it, and back up to where the next one parts from
it; all weights of the way back are known before a coin is thrown. Knows nothing of what any of it is relaxed by.
"""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Coins, Floats, Ints, Site
from cactus_core.deciding import correct
from cactus_core.paths import DraftedPaths, Verdicts
from cactus_core.relaxed_paths import relaxed_paths, spent_where_emitted
from cactus_core.relaxing import Relaxation
from cactus_core.verifying import residual


def decide_traversal(paths: DraftedPaths, coins: Coins, relaxation: Relaxation | None, left: Floats) -> Verdicts:
    """See `rules.Decide`; a relaxation is applied to every law up front. One throw for each row that is reached."""
    paths, divergence = relaxed_paths(paths, relaxation, left)
    order, parts_at, num_walks = _depth_first(paths)
    row, accepted = np.zeros((2, paths.num_sessions), dtype=np.int64)
    is_decided = num_walks == 0
    nodes = _Nodes(paths)

    for walk in range(order.shape[1]):
        live = np.flatnonzero(~is_decided & (walk < num_walks))
        if not live.size:
            break
        probability = nodes.walk(live, order[live, walk], parts_at[live, walk], parts_at[live, walk + 1])
        stands = coins.of(live).flip(probability, Site.ACCEPT, walk)
        row[live] = order[live, walk]
        accepted[live] = np.where(stands, np.arange(stands.shape[1]), 0).max(-1)
        is_decided[live] = stands.any(-1)

    final = correct(nodes.owed, paths, row, accepted, coins)
    return Verdicts(row, accepted, final, spent_where_emitted(paths, divergence, row, accepted))


def _depth_first(paths: DraftedPaths) -> tuple[Ints, Ints, Ints]:
    """The rows depth first `[B, K]`, children in the order in which rows first have them; how many tokens each shares with the
    one before it `[B, K + 1]`, -1 at both ends; and how many rows there are `[B]`. A row that says what another said is none.
    """
    depths, rows = np.arange(paths.length), np.arange(paths.proposed.shape[1])
    is_same = paths.proposed[:, :, None] == paths.proposed[:, None]
    is_same |= depths >= paths.lengths[:, None, None, None]
    shares = np.logical_and.accumulate(is_same & paths.is_row[:, None, :, None], -1)
    first_to_say = np.where(shares, rows[:, None], len(rows)).min(2, initial=len(rows))
    is_new = paths.is_row & (paths.lengths > 0)[:, None] & ~(shares.all(-1) & (rows < rows[:, None])).any(-1)

    order = np.lexsort([*np.moveaxis(first_to_say, -1, 0)[::-1], ~is_new], axis=-1)
    said = np.take_along_axis(first_to_say, order[..., None], 1)
    parts_at = np.full((len(order), len(rows) + 1), -1)
    parts_at[:, 1:-1] = np.where(np.take_along_axis(is_new, order, -1)[:, 1:], (said[:, 1:] == said[:, :-1]).sum(-1), -1)
    return order, parts_at, is_new.sum(-1)


class _Nodes:
    """The nodes on the way from the root to where each session's walk is: at each depth rho `[B, L]`, r `[B, L, S + 1]` and d
    `[B, L, S]`. `owed` is r.
    """

    def __init__(self, paths: DraftedPaths) -> None:
        self._paths = paths
        self._weight = np.ones((paths.num_sessions, paths.length))
        self._draft = np.zeros((paths.num_sessions, paths.length, paths.draft_probs.shape[-1]))
        self.owed = np.zeros((*self._draft.shape[:2], self._draft.shape[2] + 1))

    def walk(self, live: Ints, row: Ints, parted: Ints, parts: Ints) -> Floats:
        """With which probability each length stands `[n, L + 1]` when `row` `[n]` is walked down from depth `parted` `[n]` and up to
        `parts` `[n]`, where the next row parts from it: that node has rows to come. Its state is then as if nothing stood.
        """
        each, depths = np.arange(len(live))[:, None], np.arange(self._paths.length)
        lengths = self._paths.lengths[live, None]
        tokens, law = self._paths.proposed[live, row], self._paths.law_of[live, row]
        is_fresh = (depths > parted[:, None])[..., None]
        target = np.concatenate([self._paths.target_probs[live[:, None], law], self._paths.target_off[live[:, None], law, None]], -1)
        owed = np.where(is_fresh, target, self.owed[live])
        draft = np.where(is_fresh, self._paths.draft_probs[live[:, None], law], self._draft[live])

        drafted = draft[each, depths, tokens]
        ratio = np.divide(owed[each, depths, tokens], drafted, out=np.zeros_like(drafted), where=drafted > 0)
        reached, weight = np.ones((len(live), len(depths) + 1)), self._weight[live]
        for depth in depths:
            weight[:, depth] = np.where(is_fresh[:, depth, 0], reached[:, depth], weight[:, depth])
            reached[:, depth + 1] = np.minimum(1.0, weight[:, depth] * ratio[:, depth])

        is_left = (depths >= parts[:, None])[..., None]
        rest = residual(weight, owed[..., :-1], owed[..., -1], draft)
        total = rest.sum(-1)
        rest /= np.where(total > 0, total, 1.0)[..., None]
        others = draft.copy()
        others[each, depths, tokens] = 0.0
        mass = others.sum(-1, keepdims=True)
        others /= np.where(mass > 0, mass, 1.0)
        unmet = total + (1.0 - weight)
        after = np.divide(total, unmet, out=np.ones_like(total), where=unmet > 0)

        self.owed[live] = np.where(is_left, rest, owed)
        self._draft[live] = np.where(is_left, others, draft)
        self._weight[live] = np.where(is_left[..., 0], after, weight)
        probability = np.where((depths > parts[:, None]) & (depths < lengths), after, 0.0)
        at_end = np.arange(len(depths) + 1) == lengths
        return np.where(at_end, reached, np.concatenate([probability, np.zeros_like(reached[:, :1])], -1))
