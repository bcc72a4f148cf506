"""Growing a coupled tree with a model: its frontier runs as a batch, and what each node may be followed by is added.

Knows laws, noise and rows of a model; knows nothing of ONNX, nor of who verifies.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from cactus_core.coins import Ints
from cactus_core.coupled import CoupledTree
from cactus_core.growing import TreeGrower
from cactus_core.gumbel import gumbel
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams
from edge.draft_laws import likeliest
from edge.onnx_rows import OnnxRows

_BATCH = 8
_SUPPORT = 256


def grow(rows: OnnxRows, text: Ints, *, num_nodes: int, max_depth: int, params: SamplingParams, seed: int, num_prompt: int) -> CoupledTree:
    """See `Drafter.draft_tree`: `num_nodes` and `max_depth` are 1 or more, and all else was checked."""
    is_greedy = params.temperature == 0.0
    grower = TreeGrower(len(text), num_nodes=num_nodes, max_depth=max_depth, noise=None if is_greedy else partial(gumbel, seed))
    law = replace(params, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) if is_greedy else params
    penalties = Penalties(params, text, num_prompt)
    logits = rows.catch_up(text, _BATCH)
    tree = rows.new_tree(max_depth)
    frontier = grower.frontier(1)
    run = np.zeros(0, dtype=np.int64)  # nodes by slot
    slots = np.full(1, -1)
    while True:
        shaped = penalties.after(tree.drafted(slots)).edited(logits) if params.edits_logits else logits
        grower.expand(frontier, *likeliest(shaped, law, _SUPPORT))
        frontier = grower.frontier(_BATCH)
        if not frontier.size:
            return grower.finish()
        slot_of = np.full(1 + len(grower.tokens), -1)  # of each node; the last is that of node -1
        slot_of[run] = np.arange(len(run))
        logits = rows.step_tree(tree, grower.tokens[frontier], slot_of[grower.parents[frontier]])
        slots = len(run) + np.arange(len(frontier))
        run = np.append(run, frontier)
