"""Recursive rejection (SpecInfer: Miao et al. 2023): at each token the surviving paths are tried one after another.

With r_1 = q, the j-th of them to be tried, whose token is x, is followed with probability min(1, r_j(x)/p(x)); if it is not,
the target still owes r_{j+1} = (r_j - p)+, normalised. Paths that share the token go on. Where none is followed the round
ends, and the token is drawn from the last r. Each token of a path is a fresh draw from p, so each try is speculative sampling.
Knows nothing of what any of it is relaxed by.
"""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Bools, Coins, Floats, Ints, Site
from cactus_core.deciding import correct
from cactus_core.paths import DraftedPaths, Verdicts
from cactus_core.relaxed_paths import relaxed_paths, spent_where_emitted
from cactus_core.relaxing import Relaxation
from cactus_core.verifying import path_weight, residual


def decide_recursive(paths: DraftedPaths, coins: Coins, relaxation: Relaxation | None, left: Floats) -> Verdicts:
    """See `rules.Decide`; a relaxation is applied to every law up front. One coin a depth: no r depends on what was thrown."""
    paths, divergence = relaxed_paths(paths, relaxation, left)
    active = paths.is_row
    row, accepted = np.zeros((2, paths.num_sessions), dtype=np.int64)
    owed = np.zeros((paths.num_sessions, paths.length, paths.draft_probs.shape[-1] + 1))

    for depth in range(paths.length):
        live = np.flatnonzero((accepted == depth) & (depth < paths.lengths))
        if not live.size:
            break
        draft, target, target_off = paths.at(live, row[live], depth)
        proposed = paths.proposed[live, :, depth]
        odds, owed[live, depth] = _tries(draft, target, target_off, proposed, active[live])
        path = coins.of(live).draw(odds, Site.CHOOSE, depth)
        each = np.flatnonzero(path < active.shape[1])
        followed, taken = live[each], proposed[each, path[each]]
        accepted[followed] += 1
        active[followed] &= proposed[each] == taken[:, None]
        row[followed] = active[followed].argmax(-1)

    final = correct(owed, paths, row, accepted, coins)
    return Verdicts(row, accepted, final, spent_where_emitted(paths, divergence, row, accepted))


def _tries(draft: Floats, target: Floats, target_off: Floats, proposed: Ints, active: Bools) -> tuple[Floats, Floats]:
    """With which probability each path is followed, and none, `[n, K + 1]`; and what is owed then, the last r, `[n, S + 1]`."""
    left = np.concatenate([target, target_off[:, None]], -1)
    odds, untaken = np.zeros((len(active), active.shape[1] + 1)), np.ones(len(active))
    for path in range(active.shape[1]):
        tried = np.flatnonzero(active[:, path])
        token = proposed[tried, path]
        accept = path_weight(np.ones(len(tried)), left[tried, token], draft[tried, token])
        odds[tried, path] = untaken[tried] * accept
        untaken[tried] *= 1.0 - accept
        owed = residual(np.ones(len(tried)), left[tried, :-1], left[tried, -1], draft[tried])
        total = owed.sum(-1, keepdims=True)
        left[tried] = np.divide(owed, total, out=left[tried], where=total > 0)  # nothing is owed where r is p: then x stands
    odds[:, -1] = untaken
    return odds, left
