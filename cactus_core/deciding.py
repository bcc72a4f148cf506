"""Deciding which drafted tokens stand: choose one of the paths, then verify it. For many sessions at once.

Knows drafted paths, and how a rule chooses and verifies; knows nothing of which rules there are.
"""

from __future__ import annotations

import numpy as np

from cactus_core import verifying
from cactus_core.choosing import Choosing
from cactus_core.coins import Bools, Coins, Floats, Ints, Site
from cactus_core.paths import OFF_SUPPORT, DraftedPaths, Verdicts
from cactus_core.relaxing import Relaxation, less
from cactus_core.verifying import Verification


def decide_chosen(
    paths: DraftedPaths, choose: Choosing, verification: Verification, coins: Coins, relaxation: Relaxation | None, left: Floats
) -> Verdicts:
    """Choose a path for each session, top-down, then verify it. A session without drafts throws no coin for it.

    With a `relaxation` every target law q gives way to a law h that the chosen token's law s serves better; what is
    verified, exactly, is then h. `left` `[B]` is what each session may still spend on that, in nats.
    """
    if paths.proposed.shape[1] == 1 and relaxation is None:
        return _decide_single(paths, verification, coins)
    num_sessions, length = paths.num_sessions, paths.length
    active = paths.is_row
    weights = np.ones((num_sessions, length + 1))
    owed = np.zeros((num_sessions, length, paths.draft_probs.shape[-1] + 1))
    divergence, left = np.zeros((num_sessions, length + 1)), left.copy()

    for depth in range(length):
        live = (depth < paths.lengths).nonzero()[0]
        agree = active[live]
        first = agree.argmax(-1)
        draft, target, target_off = paths.at(live, first, depth)
        weight = weights[live, depth] if verification.carries else np.ones(len(live))
        proposed = paths.proposed[live, :, depth]
        law, path = _follow(choose, draft, weight[:, None] * target, proposed, agree, coins, live, depth)
        if relaxation is not None:
            relaxed = relaxation.of(live)(law, weight, target, target_off, left[live])
            target, target_off, divergence[live, depth] = relaxed.target_probs, relaxed.target_off, relaxed.divergence
            left[live] = less(left[live], relaxed.divergence)
        owed[live, depth] = verifying.residual(weight, target, target_off, law)
        each, is_followed = np.arange(len(live)), path >= 0
        taken = proposed[each, np.where(is_followed, path, first)]
        next_weight = verifying.path_weight(weight, target[each, taken], law[each, taken])
        weights[live, depth + 1] = np.where(is_followed, next_weight, 0.0)
        active[live] = agree & (proposed == taken[:, None])

    row = active.argmax(-1)
    accepted = verification.accepted_length(weights, owed.sum(-1), paths.lengths, coins)
    final = correct(owed, paths, row, accepted, coins)
    is_emitted = np.arange(length + 1)[None, :] <= accepted[:, None]
    return Verdicts(row, accepted, final, np.where(is_emitted, divergence, 0.0))


def _decide_single(paths: DraftedPaths, verification: Verification, coins: Coins) -> Verdicts:
    """As `decide_chosen`, of sessions with one path each or none: that is followed as it is, s = p, whatever the rule. So what is owed
    can be had at all depths at once.
    """
    num_sessions, length = paths.num_sessions, paths.length
    only = np.zeros(num_sessions, dtype=np.int64)
    draft, target, target_off = paths.at(np.arange(num_sessions)[:, None], only[:, None], np.arange(length))
    taken = paths.proposed[:, 0, :, None]
    draft_taken, target_taken = (np.take_along_axis(probs, taken, -1)[..., 0] for probs in (draft, target))
    is_drafted = np.arange(length) < paths.lengths[:, None]
    weights = np.ones((num_sessions, length + 1))
    carried = weights if verification.carries else np.ones_like(weights)
    for depth in range(length):
        next_weight = verifying.path_weight(carried[:, depth], target_taken[:, depth], draft_taken[:, depth])
        weights[:, depth + 1] = np.where(is_drafted[:, depth], next_weight, 1.0)
    owed = verifying.residual(carried[:, :-1], target, target_off, draft)
    accepted = verification.accepted_length(weights, np.where(is_drafted, owed.sum(-1), 0.0), paths.lengths, coins)
    return Verdicts(only, accepted, correct(owed, paths, only, accepted, coins), np.zeros((num_sessions, length + 1)))


def _follow(
    choose: Choosing, draft: Floats, usable: Floats, proposed: Ints, active: Bools, coins: Coins, live: Ints, depth: int
) -> tuple[Floats, Ints]:
    """The law `[n, S]` of the token that is taken, and the path that it is taken from `[n]`, -1 for none. Mutates `draft`.

    One path alone is followed as it is, s = p, whatever the rule; and that is most of them after the first few tokens.
    """
    num_paths, path = active.sum(-1), active.argmax(-1)
    several = np.flatnonzero(num_paths > 1)
    if several.size:
        choice = choose(draft[several], usable[several], num_paths[several])
        odds = choice.odds(proposed[several], active[several])
        if choice.abstains:
            odds = np.concatenate([odds, np.maximum(1.0 - odds.sum(-1, keepdims=True), 0.0)], -1)
        drawn = coins.of(live[several]).draw(odds, Site.CHOOSE, depth)
        path[several] = np.where(drawn < active.shape[1], drawn, -1)
        draft[several] = choice.law
    return draft, path


def correct(owed: Floats, paths: DraftedPaths, row: Ints, accepted: Ints, coins: Coins) -> Ints:
    """The token after what stands `[B]`: drawn from what is `owed` `[B, L, S + 1]` at that place; `OFF_SUPPORT` after a whole path."""
    final = np.full(len(row), OFF_SUPPORT)
    corrected = np.flatnonzero(accepted < paths.lengths)
    if corrected.size:
        weights = owed[corrected, accepted[corrected]]
        # Where nothing is owed, some longer prefix stands; only rounding can bring us here. The target's law is then right.
        _, target, target_off = paths.at(corrected, row[corrected], accepted[corrected])
        whole = np.concatenate([target, target_off[:, None]], -1)
        weights = np.where(weights.sum(-1, keepdims=True) > 0, weights, whole)
        index = coins.of(corrected).draw(weights, Site.CORRECT, 0)
        final[corrected] = np.where(index < weights.shape[-1] - 1, index, OFF_SUPPORT)
    return final
