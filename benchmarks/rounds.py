"""Claim: the product's rule brings more tokens a round than every published exact rule, and a relaxed one more for what it spends.

Every rule decides on the same drafts, several times over with other coins: 1,000 contexts and more along texts that the demo
target wrote by itself (prompts unseen in tuning), and synthetic laws. A rule that were ahead of `nearest+block` beyond the
interval of the paired difference would refute the first half; a relaxation that spends less for as many tokens, the
second. One figure is the mean over contexts, its interval is of contexts, not of coins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from benchmarks.drafts import Contexts, demo_blocks, demo_contexts, first_rows, stacked, synthetic_paths
from cactus_core.acceptance import Acceptance
from cactus_core.coins import Floats, SeededCoins
from cactus_core.paths import DraftedPaths
from cactus_core.rules import DEFAULT_RULE, RULES
from cluster.figures import Case, Figures

LENGTH = 6
_SUPPORT = 1024
_PER_TEXT = 16
_BATCH = 32
_ALONE = ("first+token", "first+block", "recursive", "traversal", "spectr_gbv", DEFAULT_RULE)  # with one path the others are these
_WIDE = ("first+token", "ranked+block", "quota+block", "traversal", DEFAULT_RULE)
_RELAXED = [
    *(("certified", delta) for delta in (0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)),
    *(("certified_tv", delta) for delta in (0.01, 0.05, 0.15)),
    *(("priced", price) for price in (6.0, 3.0, 1.5, 0.8)),
    *(("interpolate", alpha) for alpha in (0.1, 0.3, 0.6)),
]
_PUBLISHED = [
    *(("cactus", delta) for delta in (0.001, 0.01, 0.05, 0.1, 0.3, 1.0)),
    *(("cactus_exact", delta) for delta in (0.001, 0.01, 0.05, 0.1, 0.3, 1.0)),
    *(("typical", threshold) for threshold in (0.01, 0.03, 0.09, 0.3)),
    *(("top_k", k) for k in (2.0, 3.0, 5.0, 10.0)),
]


@dataclass(frozen=True, slots=True)
class Setting:
    """A rule, relaxed or not, over so many paths."""

    acceptance: Acceptance
    num_rows: int


@dataclass(slots=True)
class Tally:
    """Over contexts: the mean over coins of tokens emitted and of nats spent, and the most spent at one place."""

    tokens: list[Floats] = field(default_factory=list)
    divergence: list[Floats] = field(default_factory=list)
    most: float = 0.0


Tallies = dict[Setting, Tally]


def settings(temperature: float, *, quick: bool) -> list[Setting]:
    rows = (1, 4) if quick else (1, 2, 4, 8, 16)
    exact = [
        Setting(Acceptance(name), k)
        for k in rows
        for name in (_ALONE if k == 1 else _WIDE if k == 16 else RULES)
    ]  # fmt: skip
    if temperature != 1.0:
        return exact
    relaxed = _RELAXED[1::3] if quick else _RELAXED
    published = _PUBLISHED[1::3] if quick else _PUBLISHED
    bounded = [Setting(Acceptance(DEFAULT_RULE, *relaxation), k) for relaxation in relaxed for k in (1, 4)]
    alone = [relaxation for relaxation in relaxed if relaxation[0] in ("certified", "interpolate")]
    single = [Setting(Acceptance("first+token", *relaxation), 1) for relaxation in [*alone, *published]]
    others = [Setting(Acceptance(name, "certified", 0.05), 4) for name in ("first+block", "quota+block", "traversal")]
    return [*exact, *bounded, *single, *others]


def tallied(paths: DraftedPaths, tried: list[Setting], num_coins: int) -> Tallies:
    """What each setting brings on these drafts."""
    tallies: Tallies = {}
    for setting in tried:
        decide, drafts = setting.acceptance.decider(), first_rows(paths, setting.num_rows)
        tokens, spent, most = np.zeros((2, num_coins, paths.num_sessions)), np.zeros(0), 0.0
        emitted, nats = tokens
        for coin in range(num_coins):
            coins = SeededCoins(np.arange(paths.num_sessions) + 1_000_003 * coin, np.zeros(paths.num_sessions, dtype=np.int64))
            verdicts = decide(drafts, coins, np.full(paths.num_sessions, np.inf))
            emitted[coin], spent = verdicts.accepted + 1.0, verdicts.divergence
            nats[coin], most = spent.sum(-1), max(most, float(spent.max(initial=0.0)))
        tallies[setting] = Tally([emitted.mean(0)], [nats.mean(0)], most)
    return tallies


def demo_tallies(temperature: float, first_text: int, num_texts: int, *, quick: bool) -> Tallies:
    """One unit of work: some texts of the demo pair."""
    contexts = demo_contexts(temperature, num_texts, 8 if quick else _PER_TEXT, first_text=first_text)
    return _over(demo_sessions(contexts, 4 if quick else 16, LENGTH, _SUPPORT), settings(temperature, quick=quick), 1 if quick else 4)


def synthetic_tallies(seed: int, num_sessions: int, *, quick: bool) -> Tallies:
    """One unit of work: some synthetic sessions."""
    paths = synthetic_paths(num_sessions, 4 if quick else 8, LENGTH, np.random.default_rng(seed))
    tried = [s for s in settings(0.0, quick=quick) if s.num_rows <= paths.proposed.shape[1]]
    return tallied(paths, tried, 1 if quick else 4)


def demo_sessions(contexts: Contexts, num_rows: int, length: int, support_size: int) -> Iterator[DraftedPaths]:
    """Batches of sessions."""
    batch: list[DraftedPaths] = []
    for _, paths in demo_blocks(contexts, num_rows, length, support_size):
        batch.append(paths)
        if len(batch) == _BATCH:
            yield stacked(batch)
            batch = []
    if batch:
        yield stacked(batch)


def _over(batches: Iterator[DraftedPaths], tried: list[Setting], num_coins: int) -> Tallies:
    return joined([tallied(paths, tried, num_coins) for paths in batches])


def joined(parts: list[Tallies]) -> Tallies:
    whole: Tallies = {}
    for part in parts:
        for setting, tally in part.items():
            into = whole.setdefault(setting, Tally())
            into.tokens += tally.tokens
            into.divergence += tally.divergence
            into.most = max(into.most, tally.most)
    return whole


def report(figures: Figures, tallies: Tallies, pair: str, temperature: float) -> None:
    """Tokens a round of each setting, how far the product's rule is ahead of it, and what a relaxation spent a token."""
    base = {setting.num_rows: np.concatenate(tally.tokens) for setting, tally in tallies.items() if setting.acceptance == Acceptance()}
    for setting, tally in tallies.items():
        tokens, nats = np.concatenate(tally.tokens), np.concatenate(tally.divergence)
        case = case_of(setting, pair, temperature)
        figures.add_mean(case, "tokens_per_round", tokens, "tokens")
        if setting.acceptance.relaxation:
            figures.add(case, "realised_kl_mean", float(nats.sum() / tokens.sum()), "nats/token")
            figures.add(case, "realised_kl_max", tally.most, "nats")
        elif setting.num_rows in base and setting.acceptance != Acceptance():
            ahead = base[setting.num_rows] - tokens
            figures.add_mean({**case, "rule": DEFAULT_RULE, "against": setting.acceptance.rule}, "tokens_per_round_ahead", ahead, "tokens")


def case_of(setting: Setting, pair: str, temperature: float) -> Case:
    acceptance = setting.acceptance
    case: Case = {"rule": acceptance.rule, "label": str(acceptance.label)}
    if acceptance.relaxation:
        case |= {"relaxation": acceptance.relaxation, "strength": acceptance.strength}
    return case | {"pair": pair, "K": setting.num_rows, "L": LENGTH, "S": _SUPPORT, "temperature": temperature}
