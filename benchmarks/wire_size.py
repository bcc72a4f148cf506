"""Claim: a position's law takes at most 1.15 times its combinatorial size and two bytes more, at the 99th percentile; and
what a wider support costs in bytes, it brings in tokens. A relaxation brings back part of what a narrow support loses.

The baseline is the combinatorial size itself: the bits that tell one support and one way to share 2^bits counts among it
from all others. `share_of_bound` above 1 would refute the first half: it is the 99th percentile of a law's bytes alone over that bound.
"""

from __future__ import annotations

import numpy as np

from benchmarks.drafts import demo_blocks, demo_contexts, demo_target, stacked
from cactus_core.acceptance import Acceptance
from cactus_core.coins import SeededCoins
from cactus_core.wire import codec
from cactus_core.wire.laws import bytes_alone
from cluster.figures import Case, Figures

K, L = 4, 6
SUPPORTS = (16, 32, 64, 128, 256, 512, 1024)
DELTA = 0.05
_BOUND, _MORE_BYTES = 1.15, 2.0


def supports(*, quick: bool) -> tuple[int, ...]:
    return SUPPORTS[::3] if quick else SUPPORTS


def measure(figures: Figures, temperature: float, support_size: int, *, quick: bool) -> None:
    """Bytes and tokens a round at one support size; one unit of work."""
    contexts = demo_contexts(temperature, 4 if quick else 40 if temperature == 1.0 else 20, 5 if quick else 16, first_text=1000)
    drafted = list(demo_blocks(contexts, K, L, support_size))
    alone = np.concatenate([bytes_alone(block.laws) for block, _ in drafted])
    combinatorial = np.concatenate([block.laws.combinatorial_bits(demo_target().vocab_size) for block, _ in drafted]) / 8.0
    case: Case = {"pair": "demo", "K": K, "L": L, "S": support_size, "temperature": temperature}
    figures.add_mean(case, "law_bytes", alone, "bytes/law")
    figures.add_mean(case, "law_bytes_combinatorial", combinatorial, "bytes/law")
    figures.add(case, "share_of_bound", float(np.percentile(alone / (_BOUND * combinatorial + _MORE_BYTES), 99)), "1")
    in_block = [codec.pack_block(block, 0).ByteSize() / block.tokens.size for block, _ in drafted]
    figures.add_mean(case, "up_bytes_per_drafted_token", in_block, "bytes/token")
    paths = stacked([paths for _, paths in drafted])
    each = np.arange(paths.num_sessions)
    coins = [SeededCoins(each + 1_000_003 * i, np.zeros_like(each)) for i in range(1 if quick else 4)]
    for acceptance in (Acceptance(), Acceptance(relaxation="certified", strength=DELTA)):
        decide = acceptance.decider()
        tokens = np.mean([decide(paths, some, np.full(len(each), np.inf)).accepted + 1.0 for some in coins], 0)
        how: Case = {"rule": acceptance.rule, "delta": acceptance.strength, "texts": "wire"}
        figures.add_mean(case | how, "tokens_per_round", tokens, "tokens")
