"""Claim: coupled trees, which send no probabilities, are the ones to beat where text is sharp, and fall behind where it is not.

On the same contexts as the rejection family (see rounds.py) a best-first tree is grown from the draft with the shared noise
and walked with the target's own tokens. That `nearest+block` at K = 4 were ahead at temperature 0.6 too, or behind at
1.0, would refute it.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.drafts import demo_contexts, demo_draft_model, demo_target
from benchmarks.rounds import LENGTH
from cactus_core.coins import Floats, Ints
from cactus_core.coupled import own_tokens, walk
from cactus_core.growing import TreeGrower
from cactus_core.gumbel import gumbel
from cactus_core.lattice import quantise
from cactus_core.sampling import SamplingParams
from cloud.laws import TargetLaws
from cloud.pages import PagePool, PageTable
from cloud.segment import Segment, chain
from cloud.target import TargetModel
from cluster.figures import Case, Figures

_SUPPORT, _BITS, _BATCH = 64, 14, 8
_MAX_DEPTH = 12
_NUM_PAGES = 64


def measure(temperature: float, num_nodes: int, first_text: int, num_texts: int, *, quick: bool) -> Floats:
    """Tokens emitted at each context with trees of `num_nodes`; one unit of work."""
    contexts = demo_contexts(temperature, num_texts, 6 if quick else 8, first_text=first_text)
    target, draft, params = demo_target(), demo_draft_model(), SamplingParams(temperature)
    places = [
        (number, text, base) for number, (text, bases) in enumerate(zip(contexts.texts, contexts.bases, strict=True)) for base in bases
    ]
    return np.array([_round(target, draft, np.array(text[:base]), num_nodes, params, first_text + n) for n, text, base in places])


def report(figures: Figures, tokens: Floats, temperature: float, num_nodes: int) -> None:
    case: Case = {"rule": "coupled", "label": "exact", "pair": "demo", "nodes": num_nodes, "S": _SUPPORT, "temperature": temperature}
    figures.add_mean({**case, "L": _MAX_DEPTH, "compare_L": LENGTH}, "tokens_per_round", tokens, "tokens")


def _round(target: TargetModel, draft: TargetModel, text: Ints, num_nodes: int, params: SamplingParams, seed: int) -> float:
    grower = TreeGrower(len(text), num_nodes=num_nodes, max_depth=_MAX_DEPTH, noise=partial(gumbel, seed))
    pools = [model.new_pool(_NUM_PAGES) for model in (draft, target)]
    while (frontier := grower.frontier(_BATCH)).size:
        run = _with_ancestors(frontier, grower.parents)
        parents = np.searchsorted(run, grower.parents[run]) - (grower.parents[run] < 0)
        nodes = np.searchsorted(run, frontier) - (frontier < 0)
        narrow = quantise(_laws(draft, pools[0], text, grower.tokens[run], parents, nodes, params), _SUPPORT, _BITS)
        grower.expand(frontier, narrow.ids, narrow.probs)
    tree = grower.finish()
    nodes = np.arange(-1, len(tree.tokens))
    laws = _laws(target, pools[1], text, tree.tokens, tree.parents, nodes, params)
    positions = len(text) + np.concatenate([[0], tree.depths])
    noise = gumbel(seed, positions[:, None], np.arange(laws.shape[1])[None, :])
    walks = walk(tree.tokens[None], tree.parents[None], np.array([len(tree.tokens)]), own_tokens(laws, noise)[None])
    return float(walks.num_accepted[0]) + 1.0


def _with_ancestors(nodes: Ints, parents: Ints) -> Ints:
    """The nodes, and all that they follow, in ascending order; -1, the end of the text, is none."""
    found = above = nodes[nodes >= 0]
    while above.size:
        above = parents[above]
        above = above[above >= 0]
        found = np.union1d(found, above)
    return np.unique(found)


def _laws(model: TargetModel, pool: PagePool, text: Ints, tokens: Ints, parents: Ints, nodes: Ints, params: SamplingParams) -> Floats:
    """The model's laws `[len(nodes), V]` after the text (node -1) and after nodes of the tree."""
    table = PageTable(pool)
    chained = chain(table, text)
    segment = Segment(
        table, np.concatenate([chained.tokens, tokens]), np.concatenate([chained.parents, parents + len(text)]), 1 + len(tokens)
    )
    logits = model.forward([segment])[nodes + 1]
    table.release()
    laws = TargetLaws(logits, [params] * len(nodes))
    every_id = np.tile(np.arange(laws.vocab_size), (len(nodes), 1))
    return np.asarray(laws.at(np.arange(len(nodes)), every_id).numpy())
