"""From a step's logits to what stands: for all sessions at once, whichever family their drafts are of.

Knows the target's laws, and who judges which drafts; knows nothing of pages, streams or time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cactus_core.block import Block
from cactus_core.coins import Ints, SeededCoins, Site
from cactus_core.penalties import Edits, Penalties, paths_to_nodes
from cactus_core.session import Likeliest
from cloud.ballot import Ballot, Outcome
from cloud.blocks import Standing, judge
from cloud.laws import TargetLaws
from cloud.walks import walk_all

_NO_TOKENS = np.zeros(0, dtype=np.int64)
_DECODED = Standing(0, (), (), (0.0,), off=_NO_TOKENS)


def decide_all(logits: Tensor, ballots: Sequence[Ballot]) -> list[Outcome]:
    """`logits` `[sum of 1 + N, V]` are the ballots' rows, one ballot after the other; they stay as they are.

    What a ballot gets does not depend on the others, but for its logits' last bits. Nothing of the vocabulary's width leaves
    the device, and nothing goes there and back for one session alone.
    """
    num_rows = np.array([1 + len(ballot.tree.tokens) for ballot in ballots])
    first_row = np.cumsum(num_rows) - num_rows
    laws = TargetLaws(logits, [ballot.request.sampling for ballot in ballots], num_rows, _edits(ballots, first_row))
    coins = SeededCoins([ballot.request.seed for ballot in ballots], [ballot.drafts.base for ballot in ballots])
    lengths = [1 + ballot.drafts.length for ballot in ballots if isinstance(ballot.drafts, Block)]
    if lengths:  # no trees alone, which have their noise
        coins.throw_ahead(max(lengths))  # a GPU is still at the logits
    standing = _standing(laws, ballots, first_row, coins)
    rows = [(first, *(first + 1 + node for node in each.nodes)) for first, each in zip(first_row.tolist(), standing, strict=True)]
    tokens, logprobs = _emitted(laws, standing, rows, coins)
    top = _likeliest(laws, [ballot.request.num_top_logprobs for ballot in ballots], rows)
    return [
        Outcome(each.place, each.nodes, own, of_own, each.divergence, likeliest)
        for each, own, of_own, likeliest in zip(standing, tokens, logprobs, top, strict=True)
    ]


def _edits(ballots: Sequence[Ballot], first_row: Ints) -> list[tuple[int, Edits]]:
    """Penalties count the text and, at a tree's node, what was drafted up to there."""
    return [
        (
            first,
            Penalties(request.sampling, ballot.text, len(request.prompt)).after(paths_to_nodes(ballot.tree.tokens, ballot.tree.parents)),
        )
        for first, ballot in zip(first_row.tolist(), ballots, strict=True)
        if (request := ballot.request).sampling.edits_logits
    ]


def _standing(laws: TargetLaws, ballots: Sequence[Ballot], first_row: Ints, coins: SeededCoins) -> list[Standing]:
    """What stands of each ballot's drafts: trees are walked, blocks judged, and where nothing is drafted there is nothing to do."""
    standing = [_DECODED] * len(ballots)
    walked = [b for b, ballot in enumerate(ballots) if ballot.request.acceptance.is_coupled]
    judged = [b for b, ballot in enumerate(ballots) if len(ballot.tree.tokens) and not ballot.request.acceptance.is_coupled]
    if walked:
        for b, (nodes, tokens) in zip(walked, walk_all(laws, [ballots[b] for b in walked], first_row[walked]), strict=True):
            standing[b] = Standing(0, nodes, tokens, (0.0,) * len(tokens), off=None)
    if judged:
        for b, stands in zip(judged, judge(laws, [ballots[b] for b in judged], first_row[judged], coins.of(np.array(judged))), strict=True):
            standing[b] = stands
    return standing


def _emitted(
    laws: TargetLaws, standing: Sequence[Standing], rows: Sequence[tuple[int, ...]], coins: SeededCoins
) -> tuple[list[tuple[int, ...]], list[tuple[float, ...]]]:
    """Of each session the tokens, those that are still to be drawn among them, and their log-probabilities; `rows` are those
    of the laws that they follow.
    """
    ends = np.cumsum([len(own) for own in rows])
    flat = [row for own in rows for row in own]
    known = [token for each in standing for token in (each.tokens if each.off is None else (*each.tokens, 0))]
    at, tokens = laws.on(np.array([flat, known], dtype=np.int64))
    drawn = [(b, each.off) for b, each in enumerate(standing) if each.off is not None]
    if drawn:
        sessions = np.array([b for b, _ in drawn])
        after = np.array([rows[b][-1] for b in sessions])
        tokens[laws.on(ends[sessions] - 1)] = _drawn(laws, after, [off for _, off in drawn], coins.of(sessions))
    logprobs = laws.at(at, tokens[:, None])[:, 0].log_()
    tokens_on_host, logprobs_on_host = torch.stack([tokens.double(), logprobs]).tolist()  # one copy: ids are far below 2**53
    spans = [slice(end - len(own), end) for end, own in zip(ends.tolist(), rows, strict=True)]
    return [tuple(map(int, tokens_on_host[span])) for span in spans], [tuple(logprobs_on_host[span]) for span in spans]


def _drawn(laws: TargetLaws, rows: Ints, off: Sequence[Ints], coins: SeededCoins) -> Tensor:
    """Tokens `[n]`, each outside its own `off` (nothing, where a block stands whole)."""
    supports = np.full((len(rows), max(map(len, off))), laws.vocab_size)
    for own, support in zip(supports, off, strict=True):
        own[: len(support)] = support
    return laws.draw_outside(rows, supports, coins.uniform(Site.OFF_SUPPORT, 0))


def _likeliest(laws: TargetLaws, asked: Sequence[int], rows: Sequence[tuple[int, ...]]) -> list[tuple[Likeliest, ...]]:
    """For each of a session's `rows` as many tokens as it has `asked` for, or fewer where no more can be drawn."""
    if not any(asked):
        return [()] * len(asked)
    wanted = np.array([row for count, own in zip(asked, rows, strict=True) if count for row in own])
    ids, logprobs = laws.top(wanted, max(asked))
    places = iter(zip(ids.tolist(), logprobs.tolist(), strict=True))
    return [tuple(_drawable(*next(places), count) for _ in own) if count else () for count, own in zip(asked, rows, strict=True)]


def _drawable(ids: Sequence[int], logprobs: Sequence[float], count: int) -> Likeliest:
    return tuple((token, logprob) for token, logprob in zip(ids[:count], logprobs[:count], strict=True) if logprob > -math.inf)
