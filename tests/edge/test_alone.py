"""A draft that writes alone goes on from what stands, and no further than may be asked for."""

import numpy as np

from cactus_core.coupled import CoupledTree
from cactus_core.session import Request
from edge.alone import DraftAlone, best_path
from edge.rounds import Origin


class Counting:
    """Guesses the text's length, and the numbers after it; a worse guess stands beside each."""

    vocab_size, support_size, max_positions = 1000, 1000, 40

    def draft_tree(self, text, *, num_nodes, max_depth, params, seed, num_prompt):
        right = np.arange(len(text), len(text) + max_depth)
        tokens = np.stack([right, right + 500], -1).ravel()
        parents = np.repeat(np.arange(max_depth) * 2 - 2, 2)
        return CoupledTree(len(text), tokens, np.maximum(parents, -1))


def request_of(committed=(), max_tokens=20):
    return Request((7, 7), max_tokens, 0, "f", committed=committed)


def test_the_best_guess_is_the_first_of_each_nodes_children():
    assert best_path(CoupledTree(2, np.array([5, 6, 7, 8]), np.array([-1, -1, 0, 0]))) == [5, 7]
    assert best_path(CoupledTree(2, np.array([], dtype=np.int64), np.array([], dtype=np.int64))) == []


def test_it_writes_a_few_tokens_at_once_after_what_stands_and_what_it_wrote():
    alone = DraftAlone(Counting())
    first, second = alone.write(request_of((1, 1, 1))), alone.write(request_of((1, 1, 1)))
    assert [token.id for token in [*first, *second]] == [*range(5, 13)]
    assert {token.origin for token in first} == {Origin.UNVERIFIED}
    assert alone.unverified == [*range(5, 13)]


def test_it_stops_where_the_text_may_not_go_on():
    alone = DraftAlone(Counting())
    assert [len(alone.write(request_of((1,) * 4, max_tokens=10))) for _ in range(3)] == [4, 2, 0]
    long = DraftAlone(Counting())
    assert sum(len(long.write(request_of(max_tokens=100))) for _ in range(20)) == 38  # positions


def test_what_the_target_meets_is_unverified_no_longer():
    alone = DraftAlone(Counting())
    alone.write(request_of())
    assert [alone.meets(token) for token in (2, 3, 9)] == [True, True, False]
    assert alone.unverified == [4, 5]
