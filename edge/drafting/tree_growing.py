"""Growing coupled trees with a model: the best nodes run as a batch, and what each may be followed by is remembered.

What may follow a node, and with which share, depends on the text and the path to it alone. So a tree that is asked for where the text
has gone on along nodes that were run is grown by the same search as any other, which only need not run those that are known.
Knows laws, noise and rows of a model; knows nothing of ONNX, nor of who verifies.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Floats, Ints
from cactus_core.coupled import CoupledTree
from cactus_core.growing import TreeGrower, shares
from cactus_core.gumbel import gumbel
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams, probabilities
from edge.drafting.draft_laws import likeliest
from edge.drafting.known_noise import KnownNoise
from edge.drafting.ngram_counts import NgramCounts
from edge.drafting.ngram_mixing import mixed
from edge.drafting.onnx_rows import OnnxRows

# Nodes to a run. More of them are fewer runs, and more nodes that turn out not to be needed: with 24 nodes the demo draft takes 1.2
# to 1.4 times as long with 8 as with 4.
_BATCH = 4
# Tokens that a run brings for each of its nodes that the target comes by. While somebody waits, a run that brings less than its own time
# does is left out. With 64 nodes that takes a quarter to two fifths off the demo draft's time, for 1 to 4 of a hundred tokens; near a
# verifier of 30 ms a step a text was written 1.09 times as fast at temperature 1, with 1 1.03 times, with 1.5 no quicker.
_BROUGHT = 0.75
_LEFT_OUT_BELOW = 0.3  # such nodes in a batch, at most, whatever a run takes: times waver
# Ahead of time several trees grow together. A run of 8 takes 1.4 times as long as one of 4.
_BATCH_AHEAD = 8
# How near the target's logits are to the draft's: it is as if they lay off by Gumbel noise of scale 1 / _NEARNESS. Ranking so, not
# by the draft's own law, gains a tenth of all tokens at temperature 1 and at 0 (demo pair); 1.3 and 2 are nearly as good.
_NEARNESS = 1.6
# Of a vocabulary up to so large, every token is a candidate after each node, and the noise of all is made at once: nothing is chosen.
_WHOLE = 4096
_NOISE_AHEAD = 16  # positions of which it is made while there is nothing else to do: a fifth of the time of 16 nodes that are waited for
# Of a larger one, the likeliest. Noise lifts tokens from the tail of a law: of 24 nodes at temperature 1 the demo pair's target emits
# 4.27 tokens with 64 of them, 4.64 with 256 and 4.82 with 1024 or all; at 0.6 and below 64 would do.
_SUPPORT = 1024
_WIDTH = 96  # tokens remembered after each node, the best: of larger trees, as many as they have nodes

_Edge = tuple[int, int]  # the slot above, and a token
_Followers = tuple[Ints, Floats]  # tokens `[W]` that may come next, the best first, and the logarithms of their shares


@dataclass(frozen=True, slots=True)
class Asked:
    """What a tree's laws depend on, beside the text."""

    params: SamplingParams
    seed: int
    num_prompt: int


class TreeSearch:
    """What is known of the texts that may follow one: of each node that was run, what may follow it, and its keys and values."""

    def __init__(
        self, rows: OnnxRows, text: Ints, asked: Asked, noise: KnownNoise, counts: NgramCounts, run_s: deque[float], num_nodes: int
    ) -> None:
        """Runs what of `text` was not run yet, for trees of up to `num_nodes`. `text` is kept: the caller must not change it.

        `noise` is that of the request's seed, and `counts` have always read the text that the next tree is to follow. What runs take is
        added to `run_s`.
        """
        self.asked, self.width = asked, max(num_nodes, _WIDTH)
        self._is_greedy = asked.params.temperature == 0.0
        self._law = replace(asked.params, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) if self._is_greedy else asked.params
        self._rows, self._noise, self._counts, self._run_s = rows, noise, counts, run_s
        self._takes_all_noise = rows.shape.vocab_size <= _WHOLE and not self._is_greedy
        logits = rows.catch_up(text, _BATCH)
        self._tree = rows.new_tree()
        self._penalties = Penalties(asked.params, text, asked.num_prompt)
        # Slots of the tree that were run, by the slot above and the token; and what may follow each, -1 being the end of the text.
        self._slots: dict[_Edge, int] = {}
        self._followers: dict[int, _Followers] = {}
        self._learn(np.full(1, -1), logits)
        self._num_nodes = self._max_depth = 0

    def goes_on_to(self, text: Ints) -> bool:
        """Moves on to `text`, which is kept, where it follows this one's along nodes that were run; else nothing changes. Says which."""
        base, slot = len(self._tree.text), -1
        if not np.array_equal(text[:base], self._tree.text):
            return False
        for token in text[base:].tolist():
            if (slot := self._slots.get((slot, token), -1)) < 0:
                return False
        if slot >= 0:
            tree, kept = self._tree.below(slot)
            self._rows.catch_up_with(tree, _BATCH)
            moved = {slot: -1, **{old: new for new, old in enumerate(kept.tolist())}}
            self._slots = {(moved[above], token): moved[old] for (above, token), old in self._slots.items() if above in moved}
            self._followers = {moved[old]: followers for old, followers in self._followers.items() if old in moved}
            self._tree, self._penalties = tree, Penalties(self.asked.params, text, self.asked.num_prompt)
        return True

    def tree(self, num_nodes: int, max_depth: int, s_per_token: float) -> CoupledTree:
        """See `Drafter.draft_tree`: `num_nodes` is at most `width`, and both are 1 or more."""
        self._num_nodes, self._max_depth = num_nodes, max_depth
        growth = self._growth(-1, num_nodes)
        run_s = median(self._run_s) if self._run_s else 0.0
        while missing := growth.missing(min(run_s / (_BROUGHT * s_per_token), _LEFT_OUT_BELOW)):
            self._run(missing[:_BATCH])
        return growth.grower.finish()

    def think_ahead(self, num_nodes: int, should_stop: Callable[[], bool]) -> None:
        """See `ThinksAhead.think_ahead`."""
        if self._takes_all_noise:
            for position in range(len(self._tree.text), min(len(self._tree.text) + _NOISE_AHEAD, self._rows.shape.max_positions)):
                if should_stop():
                    return
                self._noise.make(position)
        if self._num_nodes and num_nodes:
            self._rows.catch_up_with(self._tree, _BATCH_AHEAD)
            most = len(self._followers) + num_nodes
            for edges in self._ahead():
                if len(self._followers) >= most or should_stop():
                    return
                self._run(edges)

    def _ahead(self) -> Iterator[list[_Edge]]:
        """What to run ahead, a batch at a time.

        A tree holds the best nodes, so the text may leave it in many ways of which none is likely. The first run for the tree after
        one is of one node alone, for the others it is a few: so the first nodes of all are run, and then tree by tree.
        """
        last = self._growth(-1, self._num_nodes + 1)  # the one node of a tree that it does not take to be run
        while edges := last.missing():
            yield edges[:_BATCH]
        wide = self._growth(-1, self.width)
        wide.missing()
        ways = wide.ways_out(self._num_nodes)
        not_run = [way for way in ways if way not in self._slots]
        for first in range(0, len(not_run), _BATCH_AHEAD):
            yield not_run[first : first + _BATCH_AHEAD]
        at_once = _BATCH_AHEAD // _BATCH
        for first in range(0, len(ways), at_once):
            growths = [self._growth(self._slots[way], self._num_nodes) for way in ways[first : first + at_once]]
            while edges := [edge for growth in growths for edge in growth.missing()[:_BATCH]]:
                yield edges

    def _growth(self, root: int, num_nodes: int) -> _Growth:
        """Of the best nodes below the slot `root`."""
        base = len(self._tree.text) + int(self._tree.depths[root])
        max_depth = min(self._max_depth, self._rows.shape.max_positions - base)
        return _Growth(TreeGrower(base, num_nodes=num_nodes, max_depth=max_depth), root, self._slots, self._followers)

    def _run(self, edges: Sequence[_Edge]) -> None:
        """Runs tokens below slots that were run."""
        started, first = time.perf_counter(), len(self._tree)
        above, tokens = np.array(edges).T
        logits = self._rows.step_tree(self._tree, tokens, above)
        slots = range(first, first + len(edges))
        self._learn(np.array(slots), logits)
        self._slots.update(zip(edges, slots, strict=True))
        self._run_s.append(time.perf_counter() - started)

    def _learn(self, slots: Ints, logits: NDArray[np.floating]) -> None:
        """What may follow `slots` `[M]`, of the `logits` `[M, V]` after each."""
        if self.asked.params.edits_logits:
            logits = self._penalties.after(self._tree.drafted(slots)).edited(logits)
        positions = len(self._tree.text) + self._tree.depths[slots]
        if self._takes_all_noise:
            columns, logs = shares(self._weights(_log_law(logits, self._law), self._noise(positions)), self.width)
            followers = zip(columns, logs, strict=True)
        else:
            ids, probs = likeliest(logits, self._law, _SUPPORT)
            drawn = None
            if self._is_greedy:
                probs = mixed(ids, probs, self._counts, [path[path >= 0].tolist() for path in self._tree.drafted(slots)])
            else:
                drawn = gumbel(self.asked.seed, positions[:, None], ids)
            columns, logs = shares(self._weights(_log(probs), drawn), self.width)
            followers = zip(np.take_along_axis(ids, columns, -1), logs, strict=True)
        self._followers.update(zip(slots.tolist(), followers, strict=True))

    def _weights(self, log_law: NDArray[np.floating], noise: NDArray[np.floating] | None) -> NDArray[np.floating]:
        # The law is that of logits divided by the temperature, and so is what the target's lie off by.
        sharpness = _NEARNESS * self._law.temperature
        return sharpness * (log_law if noise is None else log_law + noise)


class _Growth:
    """The search for the best nodes below one that was run. `slots` and `followers` are the `TreeSearch`'s own."""

    def __init__(self, grower: TreeGrower, root: int, slots: Mapping[_Edge, int], followers: Mapping[int, _Followers]) -> None:
        self.grower = grower
        self._slots, self._followers = slots, followers
        self._slot_of: dict[int, int] = {}  # of the nodes that were expanded
        self._expand(np.full(1, -1), [root])

    def missing(self, least: float = 0.0) -> list[_Edge]:
        """What must be run next, the best first, everything that is known by now being taken in; nothing when the tree is grown, or of the
        best of it fewer than `least` are expected to be reached.
        """
        while True:
            frontier = self.grower.frontier()
            edges = self._edges(frontier)
            known = [number for number, edge in enumerate(edges) if edge in self._slots]
            if not known:
                return edges if self.grower.reached(frontier[:_BATCH]) >= least else []
            self._expand(frontier[known], [self._slots[edges[number]] for number in known])

    def ways_out(self, num_nodes: int) -> list[_Edge]:
        """Of this tree's nodes, those that are no part of the tree of `num_nodes`, but follow one that is; the best first."""
        best = self.grower.best()
        inside = np.append(best[:num_nodes], -1)  # the first nodes of a larger tree are the best smaller one
        outside = best[num_nodes:]
        return self._edges(outside[np.isin(self.grower.parents[outside], inside)])

    def _edges(self, nodes: Ints) -> list[_Edge]:
        above = [self._slot_of[parent] for parent in self.grower.parents[nodes].tolist()]
        return list(zip(above, self.grower.tokens[nodes].tolist(), strict=True))

    def _expand(self, nodes: Ints, slots: list[int]) -> None:
        ids, logs = zip(*(self._followers[slot] for slot in slots), strict=True)
        self.grower.add(nodes, np.stack(ids), np.stack(logs))
        self._slot_of.update(zip(nodes.tolist(), slots, strict=True))


def _log(probs: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probs))


def _log_law(logits: NDArray[np.floating], law: SamplingParams) -> NDArray[np.floating]:
    """The logarithms of the law that is sampled from, each row off by a constant of its own."""
    return _log(probabilities(logits, law)) if law.truncates else logits / np.float32(law.temperature)
