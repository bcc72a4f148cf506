"""Keys and values of a drafted tree's nodes, beside the rows that run them.

A row holds one path at a time; here every node's keys and values stay, so that any row can go on below any node, and a
text that follows one of the tree's paths need not be run again.
Knows arrays; knows nothing of ONNX Runtime, nor of which nodes are worth running.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Ints
from edge.exporting.draft_shape import DraftShape

_T = TypeVar("_T", bound=np.generic)

_NUM_SLOTS, _DEPTH = 64, 16  # at first; doubled when they are full


class KvTree:
    """The nodes after `text` that were run, in slots 0, 1, ... in the order that they were added.

    The slot -1 is the end of the text. `tokens` `[C]` are what was run, `paths` `[C, D]` the slots on the way to each, itself
    included, -1 after the last; `depths` their numbers, 0 at -1. More slots than were filled are nobody's.
    """

    def __init__(self, shape: DraftShape, text: Ints) -> None:
        self.text = text
        self._shape = shape
        self._num_nodes = 0
        # The last place of each is the end of the text, which is slot -1.
        self._tokens: Ints = np.full(_NUM_SLOTS + 1, -1)
        self._paths: Ints = np.full((_NUM_SLOTS + 1, _DEPTH), -1)
        self.depths: Ints = np.zeros(_NUM_SLOTS + 1, dtype=np.int64)
        self._kv: NDArray[np.float32] = np.zeros(
            (_NUM_SLOTS + 1, 2 * shape.num_layers, shape.num_kv_heads, shape.head_dim), dtype=np.float32
        )

    def __len__(self) -> int:
        """C."""
        return self._num_nodes

    def drafted(self, slots: Ints) -> Ints:
        """`[M, D]`: the tokens on the way to each of `slots` `[M]`, itself included; -1 is no token."""
        return np.asarray(self._tokens[self._paths[slots]])

    def lay(self, rows: NDArray[np.float32], above: Ints) -> Ints:
        """Writes the path to each of `above` `[M]` into its row, after the text; returns the positions `[M]` that come next.

        `rows` `[2 * num_layers, M, num_kv_heads, max_positions, head_dim]` hold the text; what they hold behind it is overwritten.
        """
        depths, base = self.depths[above], len(self.text)
        paths = self._paths[above, : depths.max()]
        rows[:, :, :, base : base + paths.shape[1]] = self._kv[paths].transpose(2, 0, 3, 1, 4)
        return base + depths

    def add(self, tokens: Ints, above: Ints, kv: NDArray[np.float32]) -> None:
        """Nodes `tokens` `[M]` below the slots `above` `[M]` take the next slots.

        `kv` are their keys and values, `[M, 2 * num_layers, num_kv_heads, head_dim]`.
        """
        stop, depths = self._num_nodes + len(tokens), self.depths[above] + 1
        self._reserve(stop, int(depths.max()))
        new = np.arange(self._num_nodes, stop)
        self._tokens[new], self._kv[new], self.depths[new] = tokens, kv, depths
        self._paths[new] = self._paths[above]
        self._paths[new, depths - 1] = new
        self._num_nodes = stop

    def below(self, root: int) -> tuple[KvTree, Ints]:
        """What follows the slot `root`, as a tree whose text goes on to it; and the slots here `[C]` of what it holds, in its order."""
        depth = int(self.depths[root])
        kept = np.flatnonzero(self._paths[: self._num_nodes, depth - 1] == root)[1:]  # the first is the root itself
        number = np.full(len(self._tokens), -1)
        number[kept] = np.arange(len(kept))
        tree = KvTree(self._shape, np.concatenate([self.text, self._tokens[self._paths[root, :depth]]]))
        tree._reserve(len(kept), self._paths.shape[1])
        new = slice(len(kept))
        tree._tokens[new], tree._kv[new], tree.depths[new] = self._tokens[kept], self._kv[kept], self.depths[kept] - depth
        tree._paths[new, : self._paths.shape[1] - depth] = number[self._paths[kept, depth:]]
        tree._num_nodes = len(kept)
        return tree, kept

    def along(self, text: Ints) -> tuple[Ints, NDArray[np.float32]]:
        """The longest path `text` `[N]` takes through the tree: its tokens `[P]`, and their keys and values `[P, ...]` as `add` takes them.

        Empty where `text` does not go on from the tree's own text.
        """
        base = len(self.text)
        path: list[int] = []
        if np.array_equal(text[:base], self.text):
            above = np.where(self.depths > 1, np.take_along_axis(self._paths, np.maximum(self.depths - 2, 0)[:, None], 1)[:, 0], -1)
            for token in text[base:]:
                here = path[-1] if path else -1
                found = np.flatnonzero((self._tokens == token) & (above == here))
                if not found.size:
                    break
                path.append(int(found[0]))
        return self._tokens[path], self._kv[path]

    def _reserve(self, num_slots: int, depth: int) -> None:
        """Makes room for so many slots, and paths so long."""
        while num_slots >= len(self._tokens):
            self._tokens, self._paths, self.depths = map(_doubled, (self._tokens, self._paths, self.depths))
            self._kv = _doubled(self._kv)
        while depth > self._paths.shape[1]:
            self._paths = np.concatenate([self._paths, np.full_like(self._paths, -1)], axis=1)


def _doubled(array: NDArray[_T]) -> NDArray[_T]:
    """Twice the slots: what is new comes before the end of the text, which stays the last."""
    return np.concatenate([array[:-1], np.repeat(array[-1:], len(array), axis=0)])
