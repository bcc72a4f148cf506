"""Paths fold into a tree that reads each distinct prefix once, and unfold again; a coupled tree is one as it comes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.block import empty_block
from cactus_core.coupled import CoupledTree, empty_tree
from cloud.tree import DraftTree
from tests.core.drafts import random_block


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_every_path_is_found_in_the_tree_and_no_prefix_is_read_twice(num_rows, length, seed):
    block = random_block(seed, num_rows=num_rows, length=length, vocab_size=3, support_size=3)
    tree = DraftTree.of(block)
    assert (tree.parents < np.arange(len(tree.tokens))).all()
    for row in range(num_rows):
        node, walked = tree.node_of[row, -1], []
        while node >= 0:
            walked.append(int(tree.tokens[node]))
            node = tree.parents[node]
        assert walked[::-1] == block.tokens[row].tolist()
    prefixes = {tuple(row[: i + 1]) for row in block.tokens.tolist() for i in range(length)}
    assert len(tree.tokens) == len(prefixes)


def test_an_empty_block_is_an_empty_tree():
    tree = DraftTree.of(empty_block(5))
    assert len(tree.tokens) == 0
    assert tree.path(0, 0) == []


def test_a_coupled_tree_is_read_in_its_own_order():
    tokens, parents = np.array([7, 4, 7, 9, 1]), np.array([-1, -1, 0, 0, 2])
    tree = DraftTree.of(CoupledTree(3, tokens, parents))
    assert (tree.tokens.tolist(), tree.parents.tolist()) == (tokens.tolist(), parents.tolist())
    assert tree.node_of.shape == (0, 0)


def test_an_empty_coupled_tree_is_an_empty_tree():
    assert len(DraftTree.of(empty_tree(5)).tokens) == 0
