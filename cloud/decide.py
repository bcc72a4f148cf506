"""From a step's logits to what stands: for all sessions at once.

Knows the target's laws and the drafted blocks; knows nothing of pages, streams or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from cactus_core.acceptance import Acceptance, decider
from cactus_core.block import Block
from cactus_core.coins import Coins, Floats, Ints, SeededCoins, Site
from cactus_core.paths import OFF_SUPPORT, DraftedPaths, Verdicts
from cactus_core.sampling import SamplingParams
from cloud.sampling import probabilities
from cloud.tree import DraftTree


@dataclass(frozen=True, slots=True, eq=False)
class Ballot:
    """One session's part of a step: its block, the block's tree, how it samples, what it accepts, and what of its budget is
    `left`, in nats. Its 1 + N rows of logits are those at the end of its text and at the N nodes of the tree.
    """

    block: Block
    tree: DraftTree
    sampling: SamplingParams
    acceptance: Acceptance
    left: float
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The path `row`, how many of its tokens stand, the token after them; and of each of these the log-probability and the
    ledger's entry, which is a float32's value: what travels is what is charged.
    """

    row: int
    num_accepted: int
    final: int
    logprobs: tuple[float, ...]
    divergence: tuple[float, ...]


def decide_all(logits: Tensor, ballots: Sequence[Ballot]) -> list[Outcome]:
    """`logits` `[sum of 1 + N, V]` are the ballots' rows, one ballot after the other."""
    blocks, trees = [ballot.block for ballot in ballots], [ballot.tree for ballot in ballots]
    num_rows = np.array([1 + len(tree.tokens) for tree in trees])
    first_row = np.cumsum(num_rows) - num_rows
    laws = probabilities(logits, [ballot.sampling for ballot, count in zip(ballots, num_rows, strict=True) for _ in range(count)])
    coins = SeededCoins([ballot.seed for ballot in ballots], [block.base for block in blocks])
    verdicts = _verdicts(drafted_paths(laws, blocks, trees, first_row), ballots, coins)
    emitted_at = [
        first + np.array([0, *(1 + node for node in tree.path(row, accepted))])
        for first, tree, row, accepted in zip(first_row, trees, verdicts.row, verdicts.accepted, strict=True)
    ]
    final = _final_tokens(laws, blocks, np.array([rows[-1] for rows in emitted_at]), verdicts, coins)
    tokens = [
        np.append(block.tokens[row, :accepted] if accepted else [], token).astype(np.int64)
        for block, row, accepted, token in zip(blocks, verdicts.row, verdicts.accepted, final, strict=True)
    ]
    at = _on(laws, np.concatenate(emitted_at)), _on(laws, np.concatenate(tokens))
    logprobs = np.split(laws[at].double().log().cpu().numpy(), np.cumsum(verdicts.accepted + 1)[:-1])
    charged = verdicts.divergence.astype(np.float32).tolist()
    return [
        Outcome(int(row), int(accepted), int(token), tuple(lp.tolist()), tuple(nats[: accepted + 1]))
        for row, accepted, token, lp, nats in zip(verdicts.row, verdicts.accepted, final, logprobs, charged, strict=True)
    ]


def drafted_paths(laws: Tensor, blocks: Sequence[Block], trees: Sequence[DraftTree], first_row: Ints) -> DraftedPaths:
    """The blocks beside the target's `laws` `[rows, V]`: from `first_row` `[B]` on, the law at the end of a block's text and
    those at the nodes of its tree.

    The laws of the result are a block's places to go on from: the end of the text and all nodes but paths' last, in that order.
    However many paths pass a place, it is read once; and where a block has one law for two places, the target has two.
    """
    place_of = [1 + tree.node_before()[:, :-1] for tree in trees]
    num_places = np.array([places.max(initial=-1) + 1 for places in place_of])
    # At least one of each, so that a step of empty blocks has shapes like any other.
    num_paths = max(1, *(block.num_rows for block in blocks))
    support_size = max(1, *(block.laws.ids.shape[1] for block in blocks))
    length = max(block.length for block in blocks)
    proposed, law_of = np.zeros((2, len(blocks), num_paths, length), dtype=np.int64)
    ids = np.zeros((len(blocks), max(1, num_places.max()), support_size), dtype=np.int64)
    draft_probs = np.zeros(ids.shape)
    for b, (block, places, n) in enumerate(zip(blocks, place_of, num_places, strict=True)):
        if not block.length:
            continue
        law_at = np.empty(n, dtype=np.int64)
        law_at[places] = block.law_of
        proposed[b, : block.num_rows, : block.length] = block.choices
        law_of[b, : block.num_rows, : block.length] = places
        ids[b, :n, : block.laws.ids.shape[1]] = block.laws.ids[law_at]
        draft_probs[b, :n, : block.laws.ids.shape[1]] = block.laws.probs[law_at]
    place = np.arange(ids.shape[1])[None, :]
    rows = first_row[:, None] + np.where(place < num_places[:, None], place, 0)
    gathered = laws[_on(laws, rows[..., None]), _on(laws, ids)].cpu().numpy()
    target_probs = np.multiply(gathered, draft_probs > 0, dtype=np.float64)
    return DraftedPaths(
        proposed=proposed,
        law_of=law_of,
        draft_probs=draft_probs,
        target_probs=target_probs,
        target_off=np.maximum(1.0 - target_probs.sum(-1), 0.0),
        num_rows=np.array([block.num_rows for block in blocks]),
        lengths=np.array([block.length for block in blocks]),
    )


def _verdicts(paths: DraftedPaths, ballots: Sequence[Ballot], coins: Coins) -> Verdicts:
    """All ballots', one call for those of a kind: they may differ in strengths and in budgets."""
    alike: dict[tuple[str, str, float | None], list[int]] = {}
    for b, ballot in enumerate(ballots):
        alike.setdefault(ballot.acceptance.kind, []).append(b)
    asked = [ballot.acceptance for ballot in ballots]
    left = np.array([ballot.left for ballot in ballots])
    if len(alike) == 1:
        return decider(asked)(paths, coins, left)
    groups = [np.array(sessions) for sessions in alike.values()]
    parts = [decider([asked[b] for b in group])(paths.of(group), coins.of(group), left[group]) for group in groups]
    back = np.argsort(np.concatenate(groups))
    return Verdicts(*(np.concatenate([getattr(part, column.name) for part in parts])[back] for column in fields(Verdicts)))


def _final_tokens(laws: Tensor, blocks: Sequence[Block], row_after: Ints, verdicts: Verdicts, coins: Coins) -> Ints:
    """The corrected or bonus tokens `[B]`; `row_after` `[B]` are the rows of `laws` after what stands."""
    supports = [_support_at(block, row, depth) for block, row, depth in zip(blocks, verdicts.row, verdicts.accepted, strict=True)]
    is_off = verdicts.final == OFF_SUPPORT
    final = np.array([0 if off else ids[place] for off, ids, place in zip(is_off, supports, verdicts.final, strict=True)])
    off = np.flatnonzero(is_off)
    if off.size:
        whole = laws[_on(laws, row_after[off])].cpu().double().numpy()
        masked = [_outside(law, supports[b]) for law, b in zip(whole, off, strict=True)]
        final[off] = coins.of(off).draw(np.stack(masked), Site.OFF_SUPPORT, 0)
    return final


def _support_at(block: Block, row: int, depth: int) -> Ints:
    """The tokens that could have been drafted at a place of a path; none after its end."""
    if depth == block.length:
        return np.zeros(0, dtype=np.int64)
    law = block.law_of[row, depth]
    return np.asarray(block.laws.ids[law, block.laws.counts[law] > 0])


def _outside(law: Floats, support: Ints) -> Floats:
    """The law `[V]` without its mass on `support`; whole where rounding alone said that there was any outside."""
    outside = law.copy()
    outside[support] = 0.0
    return outside if outside.any() else law


def _on(laws: Tensor, index: Ints) -> Tensor:
    """The index on the laws' device."""
    return torch.from_numpy(index).to(laws.device)
