"""SpecTr-GBV as its authors' code has it (arXiv 2604.25925): K paths, one after another, each judged as a block.

With m_s and m_b the draft's and the target's probability of a path's first tokens, and G(z) = 1 - (1-z)^K the chance that
something of probability z is among K drafts, a row's first i + 1 tokens are accepted, p' and q' being the laws after them, with

    (m_b·G(min(1, m_s/m_b)) - served) / (G(m_s) - served),    served = sum_y m_b·q'(y)·G(min(1, m_s·p'(y) / (m_b·q'(y))))

unless they were rejected before, and the whole row with m_b·G(min(1, m_s/m_b)) / G(m_s). The longest that is accepted stands.

**It is not exact.** That something is among K drafts is paid for once by G, while each row is tried anew; a later row's
m_s and m_b are its own, also where it parts from what stands; what is owed at the end is taken to be q·(1 - ratio^K), where
what was given is q·G(ratio); and with one path it is greedy block verification (Sun et al. 2024), which needs the target's
laws after the round changed, and they are not. tests/law measures how far off it is; `kseq+block` is the exact rule of this kind.
Knows nothing of relaxations: an inexact rule has none. Its ledger is not kept: the law of what it emits at a place depends on
rows that were tried before and is not computed here, so a zero in `Verdicts.divergence` says nothing.
"""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Coins, Floats, Ints, Site
from cactus_core.deciding import correct
from cactus_core.errors import InvalidInput
from cactus_core.paths import DraftedPaths, Verdicts
from cactus_core.relaxing import Relaxation

_NOTHING = 1e-14  # of a difference beside what it is taken from: rounding


def decide_spectr_gbv(paths: DraftedPaths, coins: Coins, relaxation: Relaxation | None, left: Floats) -> Verdicts:
    """See `rules.Decide`. Raises `InvalidInput` with a relaxation."""
    if relaxation is not None:
        raise InvalidInput("spectr_gbv runs as published, without a relaxation; kseq+block is its exact kin and takes one")
    depths = np.arange(paths.length)
    row, accepted = np.zeros((2, paths.num_sessions), dtype=np.int64)
    prefix = np.ones((paths.num_sessions, 2))  # m_s and m_b of what stands
    is_rejected = np.zeros(paths.proposed.shape, dtype=np.bool_)

    for path in range(paths.proposed.shape[1]):
        live = np.flatnonzero(paths.is_row[:, path] & (accepted < paths.lengths))
        if not live.size:
            continue
        probability, prefixes = _judge(paths, live, path)
        is_partial = depths < paths.lengths[live, None] - 1
        is_tried = (depths >= accepted[live, None]) & ~(is_partial & is_rejected[live, path])
        stands = coins.of(live).flip(np.where(is_tried, probability, 0.0), Site.ACCEPT, path)
        shares = np.logical_and.accumulate(paths.proposed[live] == paths.proposed[live, path, None], -1)
        is_rejected[live] |= shares & (is_partial & is_tried & ~stands)[:, None]
        each = np.flatnonzero(stands.any(-1))
        longest = np.where(stands, depths, 0).max(-1, initial=0)[each]
        row[live[each]], accepted[live[each]], prefix[live[each]] = path, longest + 1, prefixes[each, longest]

    corrected = np.flatnonzero(accepted < paths.lengths)
    draft, target, target_off = paths.at(corrected, row[corrected], accepted[corrected])
    ratio = _ratio(prefix[corrected, :1] * draft, prefix[corrected, 1:] * target)
    owed = np.zeros((paths.num_sessions, paths.length, draft.shape[-1] + 1))
    kept = np.concatenate([target * (1.0 - ratio ** paths.num_rows[corrected, None]), target_off[:, None]], -1)
    owed[corrected, accepted[corrected]] = kept
    final = correct(owed, paths, row, accepted, coins)
    return Verdicts(row, accepted, final, np.zeros((paths.num_sessions, paths.length + 1)))


def _judge(paths: DraftedPaths, live: Ints, path: int) -> tuple[Floats, Floats]:
    """With which probability each length of a row is accepted `[n, L]`, 0 beyond its own; and its m_s and m_b `[n, L, 2]`."""
    law, tokens = paths.law_of[live, path], paths.proposed[live, path, :, None]
    draft, target = paths.draft_probs[live[:, None], law], paths.target_probs[live[:, None], law]
    drafted = np.cumprod(np.take_along_axis(draft, tokens, -1)[..., 0], -1)
    wanted = np.cumprod(np.take_along_axis(target, tokens, -1)[..., 0], -1)
    num_rows = paths.num_rows[live, None]

    available, usable = _among(drafted, num_rows), wanted * _among(_ratio(drafted, wanted), num_rows)
    wanted_next = wanted[:, :-1, None] * target[:, 1:]
    is_among = _among(_ratio(drafted[:, :-1, None] * draft[:, 1:], wanted_next), num_rows[..., None])
    served = np.zeros_like(drafted)  # 0 at a row's end, where nothing follows: there the same formula accepts the whole row
    served[:, :-1] = (wanted_next * is_among).sum(-1)
    ends, length = paths.lengths[live, None] - 1, np.arange(paths.length)
    served[length >= ends] = 0.0
    unserved = available - served
    probability = np.divide(usable - served, unserved, out=np.zeros_like(drafted), where=unserved > _NOTHING * available)
    return np.where(length <= ends, np.clip(probability, 0.0, 1.0), 0.0), np.stack([drafted, wanted], -1)


def _ratio(drafted: Floats, wanted: Floats) -> Floats:
    """min(1, drafted/wanted); 1 where nothing is wanted."""
    return np.asarray(np.minimum(1.0, np.divide(drafted, wanted, out=np.ones_like(wanted), where=wanted > 0)))


def _among(probability: Floats, num_rows: Ints) -> Floats:
    """G(z) = 1 - (1-z)^K, to full precision where z is small."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(num_rows * np.log1p(-np.minimum(probability, 1.0))))
