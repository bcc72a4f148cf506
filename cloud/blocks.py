"""What stands of drafted blocks, whose paths came with the laws that they were drawn from: the rejection family.

Knows the target's laws and the blocks; knows nothing of logits, of coupled trees, or of how a token off the supports is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from cactus_core.acceptance import decider
from cactus_core.block import Block
from cactus_core.coins import Coins, Ints
from cactus_core.paths import OFF_SUPPORT, DraftedPaths, Verdicts
from cloud.ballot import Ballot
from cloud.laws import TargetLaws
from cloud.tree import DraftTree


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What stands of one session's drafts: the `place` and the `nodes` of its outcome, and the `tokens` of the nodes and after them.

    Where `off` is given, that last token is not among `tokens`: it is to be drawn from the target's law outside the tokens `off`.
    `divergence` has an entry for each, the one to be drawn included.
    """

    place: int
    nodes: tuple[int, ...]
    tokens: tuple[int, ...]
    divergence: tuple[float, ...]
    off: Ints | None


def judge(laws: TargetLaws, ballots: Sequence[Ballot], first_row: Ints, coins: Coins) -> list[Standing]:
    """What stands of each ballot's block; all are `Block`s with at least one token."""
    blocks = [ballot.drafts for ballot in ballots if isinstance(ballot.drafts, Block)]
    verdicts = _verdicts(drafted_paths(laws, blocks, [ballot.tree for ballot in ballots], first_row), ballots, coins)
    # In float32, as it travels: what is charged here is what the other side reads.
    charged = verdicts.divergence.astype(np.float32).tolist()
    places = zip(verdicts.row.tolist(), verdicts.accepted.tolist(), verdicts.final.tolist(), strict=True)
    return [
        _standing(block, ballot.tree, *place, tuple(nats[: place[1] + 1]))
        for block, ballot, place, nats in zip(blocks, ballots, places, charged, strict=True)
    ]


def _standing(block: Block, tree: DraftTree, row: int, accepted: int, final: int, divergence: tuple[float, ...]) -> Standing:
    tokens, nodes = tuple(block.tokens[row, :accepted].tolist()), tuple(tree.path(row, accepted))
    if accepted == block.length:
        return Standing(row, nodes, tokens, divergence, off=np.zeros(0, dtype=np.int64))
    law = block.law_of[row, accepted]
    if final == OFF_SUPPORT:
        return Standing(row, nodes, tokens, divergence, off=block.laws.ids[law, block.laws.counts[law] > 0])
    return Standing(row, nodes, (*tokens, int(block.laws.ids[law, final])), divergence, off=None)


def drafted_paths(laws: TargetLaws, blocks: Sequence[Block], trees: Sequence[DraftTree], first_row: Ints) -> DraftedPaths:
    """The blocks beside the target's `laws`: from `first_row` `[B]` on, the law at the end of a block's text and those at the
    nodes of its tree.

    The laws of the result are a block's places to go on from: the end of the text and all nodes but paths' last, in that order.
    However many paths pass a place, it is read once; and where a block has one law for two places, the target has two.
    """
    place_of = [1 + tree.node_before()[:, :-1] for tree in trees]
    num_places = np.array([places.max(initial=-1) + 1 for places in place_of])
    num_paths, length, support_size = (
        max(sizes) for sizes in zip(*((block.num_rows, block.length, block.laws.ids.shape[1]) for block in blocks), strict=True)
    )
    proposed, law_of = np.zeros((2, len(blocks), num_paths, length), dtype=np.int64)
    ids, counts = np.zeros((2, len(blocks), num_places.max(), support_size), dtype=np.int64)
    for b, (block, places) in enumerate(zip(blocks, place_of, strict=True)):
        if block.tokens.size:
            proposed[b, : block.num_rows, : block.length] = block.choices
        law_of[b, : block.num_rows, : block.length] = places
        size = block.laws.ids.shape[1]
        ids[b, places, :size] = block.laws.ids[block.law_of]
        counts[b, places, :size] = block.laws.counts[block.law_of]
    draft_probs = counts * np.array([0.5**block.laws.bits for block in blocks])[:, None, None]
    place = np.arange(ids.shape[1])[None, :]
    rows = first_row[:, None] + np.where(place < num_places[:, None], place, 0)
    gathered = laws.at(rows.ravel(), ids.reshape(rows.size, support_size)).cpu().numpy().reshape(ids.shape)
    target_probs = np.where(draft_probs > 0, gathered, 0.0)
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
    asked = [ballot.request.acceptance for ballot in ballots]
    alike: dict[tuple[str, str, float | None], list[int]] = {}
    for b, acceptance in enumerate(asked):
        alike.setdefault(acceptance.kind, []).append(b)
    left = np.array([ballot.left for ballot in ballots])
    if len(alike) == 1:
        return decider(asked)(paths, coins, left)
    groups = [np.array(sessions) for sessions in alike.values()]
    parts = [decider([asked[b] for b in group])(paths.of(group), coins.of(group), left[group]) for group in groups]
    back = np.argsort(np.concatenate(groups))
    return Verdicts(*(np.concatenate([getattr(part, column.name) for part in parts])[back] for column in fields(Verdicts)))
