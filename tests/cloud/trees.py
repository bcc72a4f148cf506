"""Coupled trees by the paths they hold."""

from __future__ import annotations

import numpy as np

from cactus_core.coupled import CoupledTree

Path = tuple[int, ...]


def tree(base: int, *paths: Path) -> CoupledTree:
    """The tree of all beginnings of `paths`, shorter ones first."""
    nodes = sorted({path[:n] for path in paths for n in range(1, len(path) + 1)}, key=lambda node: (len(node), node))
    parents = [nodes.index(node[:-1]) if len(node) > 1 else -1 for node in nodes]
    return CoupledTree(base, np.array([node[-1] for node in nodes], dtype=np.int64), np.array(parents, dtype=np.int64))


def nodes(tree: CoupledTree) -> list[Path]:
    """Each node as the path to it."""
    found: list[Path] = []
    for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return found


def random_paths(chance: np.random.Generator, vocab_size: int) -> list[Path]:
    """A few short paths, at times none."""
    return [tuple(chance.integers(0, vocab_size, chance.integers(1, 5)).tolist()) for _ in range(chance.integers(0, 12))]
