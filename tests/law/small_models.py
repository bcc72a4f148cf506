"""Language models so small that every text can be enumerated: one law for each prefix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cactus_core.coins import Coins, Floats, Ints, Site
from cactus_core.deciding import OFF_SUPPORT, DraftedPaths, decide
from cactus_core.rules import Rule


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


def _laws(rng: np.random.Generator, num_laws: int, size: int, concentration: float, zeros: float) -> Floats:
    laws = rng.dirichlet(np.full(size, concentration), num_laws)
    laws[rng.random(laws.shape) < zeros] = 0.0
    dead = laws.sum(-1) < 1e-6
    laws[dead] = np.eye(size)[rng.integers(size, size=dead.sum())]
    return laws / laws.sum(-1, keepdims=True)


def random_pair(rng: np.random.Generator, vocab_size: int, support_size: int, length: int, *, equal: bool = False) -> SmallPair:
    """Laws of random sharpness, with zeros in either model now and then; `equal` makes the draft the target."""
    sharpness, zeros = rng.choice([0.2, 1.0, 5.0], 2), rng.choice([0.0, 0.0, 0.4], 2)
    target = [_laws(rng, vocab_size**i, vocab_size, sharpness[0], zeros[0]) for i in range(length + 1)]
    draft = [_laws(rng, vocab_size**i, support_size, sharpness[1], zeros[1]) for i in range(length)]
    if equal:
        draft = target[:length]
    return SmallPair(draft, target, support_size)


def prefix_index(tokens: Ints, vocab_size: int) -> Ints:
    """The place of each prefix `tokens` `[..., i]` in the tables of its length."""
    return tokens @ (vocab_size ** np.arange(tokens.shape[-1])[::-1]) if tokens.shape[-1] else np.zeros(tokens.shape[:-1], dtype=np.int64)


def one_round(pair: SmallPair, num_rows: int, rule: Rule, coins: Coins, num_sessions: int) -> Ints:
    """Draft, decide and finish as the product does. Returns the emitted tokens `[B, L + 1]`, -1 after their end."""
    length, vocab_size, support_size = pair.length, pair.vocab_size, pair.support_size
    tokens = np.zeros((num_sessions, num_rows, length), dtype=np.int64)
    draft = np.zeros((num_sessions, num_rows, length, support_size))
    target = np.zeros((num_sessions, num_rows, length, vocab_size))
    for depth in range(length):
        for row in range(num_rows):
            prefix = prefix_index(tokens[:, row, :depth], vocab_size)
            draft[:, row, depth], target[:, row, depth] = pair.draft[depth][prefix], pair.target[depth][prefix]
            tokens[:, row, depth] = coins.draw(draft[:, row, depth], Site.DRAFT, depth)
    paths = DraftedPaths(
        proposed=tokens,
        draft_probs=draft,
        target_probs=target[..., :support_size],
        target_off=target[..., support_size:].sum(-1),
        num_rows=np.full(num_sessions, num_rows),
        lengths=np.full(num_sessions, length),
    )
    verdicts = decide(paths, rule, coins)

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
    return emitted


def target_law(pair: SmallPair) -> Floats:
    """The probability of every text of L + 1 tokens, in the order of `prefix_index`."""
    law = pair.target[0][0]
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
