"""Claim: from the same drafts no exact rule could emit much more than the default one, which gains 0.95 of the most that is possible.

Against: the linear program that bounds all exact rules, on models small enough to solve it, and every other exact rule on them.
Let a(v) be the probability that the drafted prefix v stands, and f(T, w) that the tuple T of K paths is drafted, and w, a prefix of
one of them, is what stands of it. With P(T) the probability of the draft, and v, w of 1 to L tokens,

    maximise    1 + sum over v of a(v),    a(v) = sum of f(T, w) over all T, and all w that are v or go on from it
    subject to  sum over w of f(T, w) <= P(T),    a(vx) <= a(v) · q(x|v),    a of no tokens = 1,    f >= 0

The second is necessary: where v stands, the token after it is x with probability q(x|v), drafted or not. It suffices too: after what
stands, draw the next token in proportion to a(v) · q(x|v) - a(vx). So the bound is attained, by a rule that knows the whole program.
Refuted by: a mean share of `nearest+block` below 0.95, or clearly below another rule's; and a share above 1 of any rule
labelled `exact` would refute the measure itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, vstack

from benchmarks.enumerating import EnumeratingCoins, every_branch
from benchmarks.small_models import Decide, SmallPair, one_round, prefix_index, random_pair
from cactus_core.acceptance import Acceptance
from cactus_core.coins import Floats, Ints
from cactus_core.rules import RULES, Label
from cluster.figures import Case, Figures

Prefix = tuple[int, ...]

# (vocabulary, support, rows, length)
_SHAPES = ((3, 3, 2, 1), (3, 3, 2, 2), (2, 2, 3, 3), (3, 3, 3, 1), (4, 4, 2, 2), (3, 3, 3, 2), (2, 2, 2, 3))
_LEAST_GAIN = 1e-3  # where drafts bring less than this, a share of it says nothing
_TOLERANCES = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def measure(figures: Figures, *, quick: bool) -> None:
    """`share_of_limit` = (expected tokens - 1) / (limit - 1) of each exact rule and shape: the mean over models."""
    exact = [name for name, rule in RULES.items() if rule.label is Label.EXACT]
    num_models = _num_models(quick=quick)
    for shape in _shapes(quick=quick):
        vocab_size, support_size, num_rows, length = shape
        shares: dict[str, list[float]] = {name: [] for name in exact}
        for pair, most in _models(np.random.default_rng(shape), shape, num_models):
            for name in exact:
                expected = expected_tokens(pair, num_rows, Acceptance(name).decider())
                shares[name].append((expected - 1.0) / (most - 1.0))
        for name in exact:
            case: Case = {"rule": name, "label": str(Label.EXACT), "K": num_rows, "L": length, "S": support_size, "V": vocab_size}
            figures.add_mean(case, "share_of_limit", shares[name], "share")


def _shapes(*, quick: bool) -> tuple[tuple[int, int, int, int], ...]:
    return _SHAPES[:3] if quick else _SHAPES


def _num_models(*, quick: bool) -> int:
    return 3 if quick else 12


def _models(rng: np.random.Generator, shape: tuple[int, int, int, int], num_models: int) -> Iterator[tuple[SmallPair, float]]:
    """Pairs whose drafts are of some use, each with its limit."""
    vocab_size, support_size, num_rows, length = shape
    num_found = 0
    while num_found < num_models:
        pair = random_pair(rng, vocab_size, support_size, length)
        most = limit(pair, num_rows)
        if most > 1.0 + _LEAST_GAIN:
            num_found += 1
            yield pair, most


def expected_tokens(pair: SmallPair, num_rows: int, decide: Decide) -> float:
    """Tokens emitted in one round, over every branch of it."""

    def program(coins: EnumeratingCoins, num_sessions: int) -> Ints:
        return np.asarray((one_round(pair, num_rows, decide, coins, num_sessions).tokens >= 0).sum(-1))

    num_tokens, probability = every_branch(program)
    return float(num_tokens @ probability)


def limit(pair: SmallPair, num_rows: int) -> float:
    """The most tokens that any exact rule can expect to emit in one round of `num_rows` paths."""
    tuples = _tuples(pair, num_rows)
    prefixes = [prefix for length in range(1, pair.length + 1) for prefix in product(range(pair.support_size), repeat=length)]
    place = {prefix: i for i, prefix in enumerate(prefixes)}
    flows = [(t, w) for t, paths in enumerate(tuples) for w in sorted({path[:i] for path in paths for i in range(1, pair.length + 1)})]

    drawn = _matrix([(t, flow, 1.0) for flow, (t, _) in enumerate(flows)], len(tuples), len(flows))
    passing = _matrix(
        [(place[w[:i]], flow, 1.0) for flow, (_, w) in enumerate(flows) for i in range(1, len(w) + 1)], len(prefixes), len(flows)
    )
    target_prob = np.array([_next_prob(pair.target, prefix, pair.vocab_size) for prefix in prefixes])
    is_first = np.array([len(prefix) == 1 for prefix in prefixes])
    after_parent = [(place[prefix], place[prefix[:-1]], target_prob[place[prefix]]) for prefix in prefixes if len(prefix) > 1]
    too_much = passing - _matrix(after_parent, len(prefixes), len(prefixes)) @ passing

    best = linprog(
        -passing.sum(0),
        A_ub=vstack([too_much, drawn]),
        b_ub=np.concatenate([np.where(is_first, target_prob, 0.0), list(tuples.values())]),
        options=_TOLERANCES,
    )
    return 1.0 - float(best.fun)


def _tuples(pair: SmallPair, num_rows: int) -> dict[tuple[Prefix, ...], float]:
    """Every multiset of `num_rows` paths that can be drafted, with its probability."""
    paths = {}
    for path in product(range(pair.support_size), repeat=pair.length):
        probability = math.prod(_next_prob(pair.draft, path[: i + 1], pair.vocab_size) for i in range(pair.length))
        if probability > 0:
            paths[path] = probability
    tuples = {}
    for drafted in combinations_with_replacement(paths, num_rows):
        num_orders = math.factorial(num_rows) // math.prod(math.factorial(count) for count in Counter(drafted).values())
        tuples[drafted] = num_orders * math.prod(paths[path] for path in drafted)
    return tuples


def _next_prob(laws: list[Floats], prefix: Prefix, vocab_size: int) -> float:
    """The probability of the prefix's last token after those before it."""
    before = np.array(prefix[:-1], dtype=np.int64)
    return float(laws[len(before)][prefix_index(before, vocab_size), prefix[-1]])


def _matrix(entries: list[tuple[int, int, float]], num_rows: int, num_columns: int) -> Any:
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    return coo_array((values, (rows, columns)), shape=(num_rows, num_columns)).tocsr()
