"""Growing coupled trees with a model: the best nodes run as a batch, and what each may be followed by is remembered.

What may follow a node, and with which share, depends on the text and the path to it alone. So a tree that is asked for where the text
has gone on along nodes that were run is grown by the same search as any other, which only need not run those that are known.
Knows laws, noise and rows of a model; knows nothing of ONNX, nor of who verifies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Floats, Ints
from cactus_core.coupled import CoupledTree
from cactus_core.growing import TreeGrower, shares
from cactus_core.gumbel import gumbel
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams, probabilities
from edge.draft_laws import likeliest
from edge.known_noise import KnownNoise
from edge.onnx_rows import OnnxRows

# Nodes to a run. More of them are fewer runs, and more nodes that turn out not to be needed: with 24 nodes the demo draft takes 1.2
# to 1.4 times as long with 8 as with 4.
_BATCH = 4
# How near the target's logits are to the draft's: it is as if they lay off by Gumbel noise of scale 1 / _NEARNESS. Ranking so, not
# by the draft's own law, gains a tenth of all tokens at temperature 1 and at 0 (demo pair); 1.3 and 2 are nearly as good.
_NEARNESS = 1.6
# Of a vocabulary up to so large, every token is a candidate after each node, and the noise of all is made at once: nothing is chosen.
_WHOLE = 4096
# Of a larger one, the likeliest. Noise lifts tokens from the tail of a law: of 24 nodes at temperature 1 the demo pair's target emits
# 4.27 tokens with 64 of them, 4.64 with 256 and 4.82 with 1024 or all; at 0.6 and below 64 would do.
_SUPPORT = 1024
_WIDTH = 96  # tokens remembered after each node, the best: of larger trees, as many as they have nodes

# Ahead of a decision, before the likeliest ways out of the tree are followed: the best nodes of a tree so many times as large.
_WIDER = 2

_Followers = tuple[Ints, Floats]  # tokens `[W]` that may come next, the best first, and the logarithms of their shares


@dataclass(frozen=True, slots=True)
class Asked:
    """What a tree's laws depend on, beside the text."""

    params: SamplingParams
    seed: int
    num_prompt: int


class TreeSearch:
    """What is known of the texts that may follow one: of each node that was run, what may follow it, and its keys and values."""

    def __init__(self, rows: OnnxRows, text: Ints, asked: Asked, noise: KnownNoise, num_nodes: int) -> None:
        """Runs what of `text` was not run yet, for trees of up to `num_nodes`. `text` is kept: the caller must not change it.

        `noise` is that of the request's seed.
        """
        self.asked, self.width = asked, max(num_nodes, _WIDTH)
        self._is_greedy = asked.params.temperature == 0.0
        self._law = replace(asked.params, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) if self._is_greedy else asked.params
        self._rows, self._noise = rows, noise
        logits = rows.catch_up(text, _BATCH)
        self._tree = rows.new_tree()
        self._penalties = Penalties(asked.params, text, asked.num_prompt)
        # Slots of the tree that were run, by the slot above and the token; and what may follow each, -1 being the end of the text.
        self._slots: dict[tuple[int, int], int] = {}
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

    def tree(self, num_nodes: int, max_depth: int) -> CoupledTree:
        """See `Drafter.draft_tree`: `num_nodes` is at most `width`, and both are 1 or more."""
        self._num_nodes, self._max_depth = num_nodes, max_depth
        grower, _ = self._grown(-1, num_nodes, _never)
        return grower.finish()

    def think_ahead(self, num_nodes: int, should_stop: Callable[[], bool]) -> None:
        """See `ThinksAhead.think_ahead`."""
        most = len(self._followers) + num_nodes

        def is_over() -> bool:
            return len(self._followers) >= most or should_stop()

        num_drafted = self._num_nodes
        wide, slot_of = self._grown(-1, min(_WIDER * num_drafted, self.width), is_over)
        best = wide.best().tolist()
        drafted = {-1, *best[:num_drafted]}  # the first of a larger tree's nodes are the best smaller tree
        for node in best[num_drafted:]:
            if node in slot_of and int(wide.parents[node]) in drafted:
                self._grown(slot_of[node], num_drafted, is_over)

    def _grown(self, root: int, num_nodes: int, is_over: Callable[[], bool]) -> tuple[TreeGrower, dict[int, int]]:
        """The best nodes below the slot `root`, all that they need being run unless `is_over` before; and the slots of those that were."""
        base = len(self._tree.text) + int(self._tree.depths[root])
        grower = TreeGrower(base, num_nodes=num_nodes, max_depth=min(self._max_depth, self._rows.shape.max_positions - base))
        frontier, slots = np.full(1, -1), [root]
        slot_of: dict[int, int] = {}
        while True:
            grower.add(frontier, *map(np.stack, zip(*(self._followers[slot] for slot in slots), strict=True)))
            slot_of.update(zip(frontier.tolist(), slots, strict=True))
            frontier = grower.frontier()
            if not frontier.size:
                return grower, slot_of
            tokens = grower.tokens[frontier].tolist()
            above = [slot_of[parent] for parent in grower.parents[frontier].tolist()]
            slots = [self._slots.get(edge, -1) for edge in zip(above, tokens, strict=True)]
            known = [number for number, slot in enumerate(slots) if slot >= 0]
            if known:
                frontier, slots = frontier[known], [slots[number] for number in known]
            elif is_over():
                return grower, slot_of
            else:
                frontier, slots = frontier[:_BATCH], self._run(above[:_BATCH], tokens[:_BATCH])

    def _run(self, above: list[int], tokens: list[int]) -> list[int]:
        """Runs `tokens` below the slots `above`, which were run, and returns the slots of their own."""
        first = len(self._tree)
        logits = self._rows.step_tree(self._tree, np.array(tokens), np.array(above))
        slots = list(range(first, first + len(tokens)))
        self._learn(np.array(slots), logits)
        self._slots.update(zip(zip(above, tokens, strict=True), slots, strict=True))
        return slots

    def _learn(self, slots: Ints, logits: NDArray[np.floating]) -> None:
        """What may follow `slots` `[M]`, of the `logits` `[M, V]` after each."""
        if self.asked.params.edits_logits:
            logits = self._penalties.after(self._tree.drafted(slots)).edited(logits)
        positions = len(self._tree.text) + self._tree.depths[slots]
        if logits.shape[1] <= _WHOLE:
            columns, logs = shares(
                self._weights(_log_law(logits, self._law), None if self._is_greedy else self._noise(positions)), self.width
            )
            followers = zip(columns, logs, strict=True)
        else:
            ids, probs = likeliest(logits, self._law, _SUPPORT)
            drawn = None if self._is_greedy else gumbel(self.asked.seed, positions[:, None], ids)
            columns, logs = shares(self._weights(_log(probs), drawn), self.width)
            followers = zip(np.take_along_axis(ids, columns, -1), logs, strict=True)
        self._followers.update(zip(slots.tolist(), followers, strict=True))

    def _weights(self, log_law: NDArray[np.floating], noise: NDArray[np.floating] | None) -> NDArray[np.floating]:
        # The law is that of logits divided by the temperature, and so is what the target's lie off by.
        sharpness = _NEARNESS * self._law.temperature
        return sharpness * (log_law if noise is None else log_law + noise)


def _never() -> bool:
    return False


def _log(probs: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probs))


def _log_law(logits: NDArray[np.floating], law: SamplingParams) -> NDArray[np.floating]:
    """The logarithms of the law that is sampled from, each row off by a constant of its own."""
    return _log(probabilities(logits, law)) if law.truncates else logits / np.float32(law.temperature)
