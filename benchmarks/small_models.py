"""Language models so small that every text can be enumerated: one law for each prefix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.enumerating import every_branch
from cactus_core.coins import Bools, Coins, Floats, Ints, Site
from cactus_core.paths import OFF_SUPPORT, DraftedPaths, Verdicts

# (paths, coins, budgets left [B])
Decide = Callable[[DraftedPaths, Coins, Floats], Verdicts]


@dataclass(frozen=True)
class SmallPair:
    """`draft[i]` `[V**i, S]` and `target[i]` `[V**i, V]` are the laws after each prefix of i tokens; the support is tokens 0..S-1."""

    draft: list[Floats]
    target: list[Floats]
    support_size: int

    @property
    def length(self) -> int:
        return len(self.draft)

    @property
    def vocab_size(self) -> int:
        return int(self.target[0].shape[1])


class Emitted(NamedTuple):
    """Tokens `[B, L + 1]`, -1 after their end, and the ledger `[B, L + 1]`."""

    tokens: Ints
    divergence: Floats


def _laws(rng: np.random.Generator, num_laws: int, size: int, concentration: float, zeros: float) -> Floats:
    laws = rng.dirichlet(np.full(size, concentration), num_laws)
    laws[rng.random(laws.shape) < zeros] = 0.0
    dead = laws.sum(-1) < 1e-6
    laws[dead] = np.eye(size)[rng.integers(size, size=dead.sum())]
    return np.asarray(laws / laws.sum(-1, keepdims=True))


def random_pair(rng: np.random.Generator, vocab_size: int, support_size: int, length: int, *, equal: bool = False) -> SmallPair:
    """Laws of random sharpness, with zeros in either model now and then; `equal` makes the draft the target."""
    sharpness, zeros = rng.choice([0.2, 1.0, 5.0], 2), rng.choice([0.0, 0.0, 0.4], 2)
    target = [_laws(rng, vocab_size**i, vocab_size, sharpness[0], zeros[0]) for i in range(length + 1)]
    draft = [_laws(rng, vocab_size**i, support_size, sharpness[1], zeros[1]) for i in range(length)]
    if equal:
        draft = target[:length]
    return SmallPair(draft, target, support_size)


def disjoint_pair(rng: np.random.Generator, pair: SmallPair) -> SmallPair:
    """The pair without what draft and target share: each token is the draft's alone or the target's alone."""
    is_drafted = np.arange(pair.vocab_size) < rng.integers(1, min(pair.support_size, pair.vocab_size - 1) + 1)
    draft = [_only(table, is_drafted[: pair.support_size]) for table in pair.draft]
    return SmallPair(draft, [_only(table, ~is_drafted) for table in pair.target], pair.support_size)


def pointed_pair(rng: np.random.Generator, pair: SmallPair) -> SmallPair:
    """The pair with a target that is sure of every token."""
    points = [np.eye(pair.vocab_size)[rng.integers(pair.vocab_size, size=len(table))] for table in pair.target]
    return SmallPair(pair.draft, points, pair.support_size)


def _only(laws: Floats, which: Bools) -> Floats:
    laws = np.where(which, laws + 1e-3, 0.0)
    return np.asarray(laws / laws.sum(-1, keepdims=True))


def prefix_index(tokens: Ints, vocab_size: int) -> Ints:
    """The place of each prefix `tokens` `[..., i]` in the tables of its length."""
    return tokens @ (vocab_size ** np.arange(tokens.shape[-1])[::-1]) if tokens.shape[-1] else np.zeros(tokens.shape[:-1], dtype=np.int64)


def one_round(pair: SmallPair, num_rows: int, decide: Decide, coins: Coins, num_sessions: int, budget: float = np.inf) -> Emitted:
    """Draft, decide and finish as the product does."""
    length, vocab_size, support_size = pair.length, pair.vocab_size, pair.support_size
    tokens = np.zeros((num_sessions, num_rows, length), dtype=np.int64)
    draft = np.zeros((num_sessions, num_rows, length, support_size))
    target = np.zeros((num_sessions, num_rows, length, vocab_size))
    for depth in range(length):
        for row in range(num_rows):
            prefix = prefix_index(tokens[:, row, :depth], vocab_size)
            draft[:, row, depth], target[:, row, depth] = pair.draft[depth][prefix], pair.target[depth][prefix]
            tokens[:, row, depth] = coins.draw(draft[:, row, depth], Site.DRAFT, depth)
    num_laws = num_rows * length
    law_of = np.arange(num_laws).reshape(num_rows, length)
    paths = DraftedPaths(
        proposed=tokens,
        law_of=np.broadcast_to(law_of, tokens.shape),
        draft_probs=draft.reshape(num_sessions, num_laws, support_size),
        target_probs=target[..., :support_size].reshape(num_sessions, num_laws, support_size),
        target_off=target[..., support_size:].sum(-1).reshape(num_sessions, num_laws),
        num_rows=np.full(num_sessions, num_rows),
        lengths=np.full(num_sessions, length),
    )
    verdicts = decide(paths, coins, np.full(num_sessions, budget))

    emitted = np.full((num_sessions, length + 1), -1)
    chosen = tokens[np.arange(num_sessions), verdicts.row]
    for i in range(length):
        emitted[:, i] = np.where(i < verdicts.accepted, chosen[:, i], -1)
    final = verdicts.final.copy()
    for accepted in range(length + 1):
        off = np.flatnonzero((verdicts.accepted == accepted) & (final == OFF_SUPPORT))
        if off.size:
            law = pair.target[accepted][prefix_index(chosen[off, :accepted], vocab_size)].copy()
            if accepted < length:
                law[:, :support_size] = 0.0
            final[off] = coins.of(off).draw(law, Site.OFF_SUPPORT, 0)
    emitted[np.arange(num_sessions), verdicts.accepted] = final
    return Emitted(emitted, verdicts.divergence)


def target_law(pair: SmallPair) -> Floats:
    """The probability of every text of L + 1 tokens, in the order of `prefix_index`."""
    law: Floats = pair.target[0][0]
    for table in pair.target[1:]:
        law = (law[:, None] * table).ravel()
    return law


def continued_by_target(pair: SmallPair, emitted: Ints, probability: Floats) -> Floats:
    """The law of texts of L + 1 tokens when what was emitted is continued by the target."""
    vocab_size, length = pair.vocab_size, pair.length
    law = np.zeros(1)
    num_emitted = (emitted >= 0).sum(-1)
    for i in range(length + 1):
        law = (law[:, None] * pair.target[i]).ravel() if i else np.zeros(vocab_size)
        ends_here = num_emitted == i + 1
        law += np.bincount(prefix_index(emitted[ends_here, : i + 1], vocab_size), probability[ends_here], minlength=len(law))
    return law


def emitted_law(pair: SmallPair, num_rows: int, decide: Decide) -> Floats:
    """The law of texts of L + 1 tokens, over every branch of one round, continued by the target."""
    tokens, probability = every_branch(lambda coins, n: one_round(pair, num_rows, decide, coins, n).tokens)
    if not abs(probability.sum() - 1.0) <= 1e-12:
        raise RuntimeError(f"branches were lost, or followed twice: their probabilities add up to {probability.sum()}")
    return continued_by_target(pair, tokens, probability)


def law_error(pair: SmallPair, num_rows: int, decide: Decide) -> float:
    """Total variation between what is emitted, continued by the target, and the target."""
    return 0.5 * float(np.abs(emitted_law(pair, num_rows, decide) - target_law(pair)).sum())
