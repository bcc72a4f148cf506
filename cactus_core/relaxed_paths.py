"""Relaxing a whole tree of paths before it is judged, for rules whose chosen token has no law of its own to relax toward.

The law h after a prefix then depends on that prefix alone: what is judged is another target model, exactly.
Knows paths and their laws; knows nothing of how they are judged.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cactus_core.coins import Floats, Ints
from cactus_core.paths import DraftedPaths
from cactus_core.relaxing import Relaxation, less


def relaxed_paths(paths: DraftedPaths, relaxation: Relaxation | None, left: Floats) -> tuple[DraftedPaths, Floats]:
    """The paths with every target law relaxed toward the draft's, and KL(h || q) of each law `[B, N]`, in nats.

    No path spends more than `left` `[B]`, wherever it ends: a law may spend what the laws before it on its path did not. So a
    law must not stand after two different prefixes. Without a relaxation the paths are returned as they are.
    """
    divergence = np.zeros_like(paths.target_off)
    if relaxation is None:
        return paths, divergence
    target_probs, target_off = paths.target_probs.copy(), paths.target_off.copy()
    left = np.repeat(left[:, None], paths.proposed.shape[1], 1)
    for depth in range(paths.length):
        session, row = np.nonzero(paths.is_row & (depth < paths.lengths)[:, None])
        law = paths.law_of[session, row, depth]
        _, once = np.unique(np.stack([session, law]), axis=1, return_index=True)
        at = session[once], law[once]
        draft, target, off = paths.at(session[once], row[once], depth)
        relaxed = relaxation.of(session[once])(draft, np.ones(len(once)), target, off, left[session[once], row[once]])
        target_probs[at], target_off[at], divergence[at] = relaxed.target_probs, relaxed.target_off, relaxed.divergence
        left[session, row] = less(left[session, row], divergence[session, law])
    return replace(paths, target_probs=target_probs, target_off=target_off), divergence


def spent_where_emitted(paths: DraftedPaths, divergence: Floats, row: Ints, accepted: Ints) -> Floats:
    """`Verdicts.divergence` `[B, L + 1]`: what each law of `row` `[B]` spends, up to where the round ends, and 0 at a bonus token."""
    session, depth = np.nonzero(np.arange(paths.length)[None, :] < np.minimum(accepted + 1, paths.lengths)[:, None])
    spent = np.zeros((paths.num_sessions, paths.length + 1))
    spent[session, depth] = divergence[session, paths.law_of[session, row[session], depth]]
    return spent
