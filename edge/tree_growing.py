"""Growing a coupled tree with a model: its frontier runs as a batch, and what each node may be followed by is added.

Knows laws, noise and rows of a model; knows nothing of ONNX, nor of who verifies.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cactus_core.coins import Ints
from cactus_core.coupled import CoupledTree
from cactus_core.growing import Noise, TreeGrower
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams
from edge.draft_laws import likeliest
from edge.ngram_counts import NgramCounts
from edge.ngram_mixing import mixed
from edge.onnx_rows import OnnxRows

# Nodes to a run. More of them are fewer runs, and more nodes that turn out not to be needed: with 24 nodes the demo draft takes 1.2
# to 1.4 times as long with 8 as with 4.
_BATCH = 4
# Candidates after each node. Noise lifts tokens from the tail of a law: of 24 nodes at temperature 1 the demo pair's target emits
# 4.27 tokens with 64 of them, 4.64 with 256 and 4.82 with 1024 or all; at 0.6 and below 64 would do.
_SUPPORT = 1024
# How near the target's logits are to the draft's: it is as if they lay off by Gumbel noise of scale 1 / _NEARNESS. Ranking so, not
# by the draft's own law, gains a tenth of all tokens at temperature 1 and at 0 (demo pair); 1.3 and 2 are nearly as good.
_NEARNESS = 1.6


def grow(
    rows: OnnxRows,
    text: Ints,
    *,
    num_nodes: int,
    max_depth: int,
    params: SamplingParams,
    noise: Noise,
    counts: NgramCounts,
    num_prompt: int,
) -> CoupledTree:
    """See `Drafter.draft_tree`: `num_nodes` and `max_depth` are 1 or more, `noise` is the request's, `counts` have read `text`, and
    all else was checked.
    """
    is_greedy = params.temperature == 0.0
    grower = TreeGrower(
        len(text),
        num_nodes=num_nodes,
        max_depth=max_depth,
        noise=None if is_greedy else noise,
        # The law is that of logits divided by the temperature, and so is what the target's lie off by.
        sharpness=_NEARNESS if is_greedy else _NEARNESS * params.temperature,
    )
    law = replace(params, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) if is_greedy else params
    penalties = Penalties(params, text, num_prompt)
    logits = rows.catch_up(text, _BATCH)
    tree = rows.new_tree(max_depth)
    frontier = grower.frontier(1)
    run = np.zeros(0, dtype=np.int64)  # nodes by slot
    slots = np.full(1, -1)
    while True:
        shaped = penalties.after(tree.drafted(slots)).edited(logits) if params.edits_logits else logits
        ids, probs = likeliest(shaped, law, _SUPPORT)
        if is_greedy:
            paths = [path[path >= 0].tolist() for path in tree.drafted(slots)]
            probs = mixed(ids, probs, counts, paths)
        grower.expand(frontier, ids, probs)
        frontier = grower.frontier(_BATCH)
        if not frontier.size:
            return grower.finish()
        slot_of = np.full(1 + len(grower.tokens), -1)  # of each node; the last is that of node -1
        slot_of[run] = np.arange(len(run))
        logits = rows.step_tree(tree, grower.tokens[frontier], slot_of[grower.parents[frontier]])
        slots = len(run) + np.arange(len(frontier))
        run = np.append(run, frontier)
