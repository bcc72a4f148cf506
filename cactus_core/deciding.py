"""Deciding which drafted tokens stand, for many sessions at once.

Knows drafted paths with both models' laws on their supports; knows nothing of vocabularies, models or streams: where a
round ends off the support, the verifier, which alone holds the whole law, draws the token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cactus_core import verifying
from cactus_core.coins import Coins, Floats, Ints, Site
from cactus_core.rules import Rule

OFF_SUPPORT = -1


@dataclass(frozen=True, slots=True, eq=False)
class DraftedPaths:
    """B blocks padded to K paths, L tokens and S support tokens.

    `proposed` `[B, K, L]` are the drafted tokens as indices into their supports. `draft_probs` and `target_probs` `[B, K, L, S]` are
    the laws they were and would have been drawn from, 0 on padding; `target_off` `[B, K, L]` is the target's mass off the
    support. `num_rows` and `lengths` `[B]` say what is real: the first rows and the first tokens. Both may be 0.
    """

    proposed: Ints
    draft_probs: Floats
    target_probs: Floats
    target_off: Floats
    num_rows: Ints
    lengths: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """For each session `[B]`: a path, how many of its tokens stand, and the token that follows them, as an index into the
    support at that place, or `OFF_SUPPORT`: then it is to be drawn from the target's law outside that support (outside
    nothing, where the whole path stands: the bonus token).
    """

    row: Ints
    accepted: Ints
    final: Ints


def decide(paths: DraftedPaths, rule: Rule, coins: Coins) -> Verdicts:
    """Choose a path for each session, then verify it as a block. A session without drafts throws no coin for it."""
    num_sessions, num_rows, length = paths.proposed.shape
    active = np.arange(num_rows)[None, :] < paths.num_rows[:, None]
    row = np.zeros(num_sessions, dtype=np.int64)
    weights = np.ones((num_sessions, length + 1))
    corrections = np.zeros((num_sessions, length, paths.draft_probs.shape[-1] + 1))

    for depth in range(length):
        live = np.flatnonzero(depth < paths.lengths)
        row[live] = active[live].argmax(-1)
        draft, target = paths.draft_probs[live, row[live], depth], paths.target_probs[live, row[live], depth]
        weight, proposed = weights[live, depth], paths.proposed[live, :, depth]
        taken, law = rule.choose(draft, target, weight, proposed, active[live], coins.of(live), depth)
        corrections[live, depth] = verifying.residual(weight, target, paths.target_off[live, row[live], depth], law)
        on_path = np.arange(len(live)), taken
        weights[live, depth + 1] = verifying.path_weight(weight, target[on_path], law[on_path])
        active[live] &= proposed == taken[:, None]
        row[live] = active[live].argmax(-1)

    accepted = verifying.accepted_length(weights, corrections.sum(-1), paths.lengths, coins)
    final = np.full(num_sessions, OFF_SUPPORT)
    corrected = np.flatnonzero(accepted < paths.lengths)
    if corrected.size:
        at = corrected, row[corrected], accepted[corrected]
        weights = corrections[corrected, accepted[corrected]]
        # Where the target owes nothing, some longer prefix stands; only rounding can bring us here. The target's law is then right.
        whole = np.concatenate([paths.target_probs[at], paths.target_off[at][:, None]], -1)
        weights = np.where(weights.sum(-1, keepdims=True) > 0, weights, whole)
        index = coins.of(corrected).draw(weights, Site.CORRECT, 0)
        final[corrected] = np.where(index < weights.shape[-1] - 1, index, OFF_SUPPORT)
    return Verdicts(row, accepted, final)
