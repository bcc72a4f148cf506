"""From a step's logits to what stands: for all sessions at once.

Knows the target's laws and the drafted blocks; knows nothing of pages, streams or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cactus_core.block import Block
from cactus_core.coins import Floats, Ints, SeededCoins, Site
from cactus_core.deciding import OFF_SUPPORT, DraftedPaths, decide
from cactus_core.rules import Rule
from cactus_core.sampling import SamplingParams
from cloud.sampling import probabilities
from cloud.tree import DraftTree


@dataclass(frozen=True, slots=True, eq=False)
class Ballot:
    """One session's part of a step: its block, the block's tree, and how it samples. Its 1 + N rows of logits are those
    at the end of its text and at the N nodes of the tree.
    """

    block: Block
    tree: DraftTree
    sampling: SamplingParams
    rule: Rule
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The path `row`, how many of its tokens stand, the token after them, and the log-probability of each of these."""

    row: int
    num_accepted: int
    final: int
    logprobs: tuple[float, ...]


def decide_all(logits: Tensor, ballots: Sequence[Ballot]) -> list[Outcome]:
    """`logits` `[sum of 1 + N, V]` are the ballots' rows, one ballot after the other. One rule serves them all for now."""
    num_rows = np.array([1 + len(ballot.tree.tokens) for ballot in ballots])
    first_row = np.cumsum(num_rows) - num_rows
    laws = probabilities(logits, [ballot.sampling for ballot, count in zip(ballots, num_rows, strict=True) for _ in range(count)])
    law_row, support, paths = _gather(laws, ballots, first_row)
    coins = SeededCoins([ballot.seed for ballot in ballots], [ballot.block.base for ballot in ballots])
    verdicts = decide(paths, ballots[0].rule, coins)

    each = np.arange(len(ballots))
    last_row = law_row[each, verdicts.row, verdicts.accepted]
    corrected = verdicts.accepted < paths.lengths
    last_place = np.where(corrected, verdicts.accepted, 0)
    final = np.zeros_like(verdicts.final)
    on = np.flatnonzero(verdicts.final != OFF_SUPPORT)
    final[on] = support[on, verdicts.row[on], last_place[on], verdicts.final[on]]
    off = np.flatnonzero(verdicts.final == OFF_SUPPORT)
    if off.size:
        whole = laws[torch.from_numpy(last_row[off]).to(laws.device)].double().cpu().numpy()
        # A bonus token is drawn from the whole law; a corrected one from outside the support that gave nothing.
        inside = [
            support[b, k, i][paths.draft_probs[b, k, i] > 0] if corrected[b] else []
            for b, k, i in zip(off, verdicts.row[off], last_place[off], strict=True)
        ]
        masked = [_outside(law, ids) for law, ids in zip(whole, inside, strict=True)]
        final[off] = coins.of(off).draw(np.stack(masked), Site.OFF_SUPPORT, 0)
    return _outcomes(laws, ballots, law_row, verdicts.row, verdicts.accepted, final)


def _gather(laws: Tensor, ballots: Sequence[Ballot], first_row: Ints) -> tuple[Ints, Ints, DraftedPaths]:
    """The rows of `laws` at every place `[B, K, L + 1]`, the supports' ids there `[B, K, L, S]`, and the paths to decide on."""
    blocks = [ballot.block for ballot in ballots]
    # At least one row, so that a step of empty blocks has a place to read the next token's law at.
    sizes = np.array([(max(block.num_rows, 1), block.length, block.laws.ids.shape[1]) for block in blocks])
    shape = (len(blocks), *(int(size) for size in sizes.max(0)))
    law_row = np.broadcast_to(first_row[:, None, None], (*shape[:2], shape[2] + 1)).copy()
    support, proposed = np.zeros(shape, dtype=np.int64), np.zeros(shape[:3], dtype=np.int64)
    draft_probs = np.zeros(shape)
    for b, (ballot, block) in enumerate(zip(ballots, blocks, strict=True)):
        k, n, s = block.num_rows, block.length, block.laws.ids.shape[1]
        if not n:
            continue
        law_row[b, :k, : n + 1] += 1 + ballot.tree.node_before()
        support[b, :k, :n, :s] = block.laws.ids[block.law_of]
        draft_probs[b, :k, :n, :s] = block.laws.probs[block.law_of]
        proposed[b, :k, :n] = block.choices
    flat = torch.from_numpy(law_row[..., :-1, None]).to(laws.device), torch.from_numpy(support).to(laws.device)
    target_probs: Floats = np.where(draft_probs > 0, laws[flat].double().cpu().numpy(), 0.0)
    paths = DraftedPaths(
        proposed=proposed,
        draft_probs=draft_probs,
        target_probs=target_probs,
        target_off=np.maximum(1.0 - target_probs.sum(-1), 0.0),
        num_rows=np.array([block.num_rows for block in blocks]),
        lengths=np.array([block.length for block in blocks]),
    )
    return law_row, support, paths


def _outside(law: Floats, support: Ints | list[int]) -> Floats:
    """The law `[V]` without its mass on `support`; whole where rounding alone said that there was any outside."""
    outside = law.copy()
    outside[support] = 0.0
    return outside if outside.any() else law


def _outcomes(laws: Tensor, ballots: Sequence[Ballot], law_row: Ints, row: Ints, accepted: Ints, final: Ints) -> list[Outcome]:
    emitted = [
        np.append(ballot.block.tokens[r, :n] if n else [], f).astype(np.int64)
        for ballot, r, n, f in zip(ballots, row, accepted, final, strict=True)
    ]
    rows = np.concatenate([law_row[b, row[b], : accepted[b] + 1] for b in range(len(ballots))])
    at = torch.from_numpy(rows).to(laws.device), torch.from_numpy(np.concatenate(emitted)).to(laws.device)
    logprobs = np.split(laws[at].double().log().cpu().numpy(), np.cumsum(accepted + 1)[:-1])
    return [Outcome(int(r), int(n), int(f), tuple(lp.tolist())) for r, n, f, lp in zip(row, accepted, final, logprobs, strict=True)]
