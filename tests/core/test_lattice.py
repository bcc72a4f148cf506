"""Lattice laws: what a drafter samples from."""

from math import comb, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.errors import InvalidInput
from cactus_core.lattice import LatticeLaws, quantise


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_quantised_laws_add_up_and_keep_the_likeliest(vocab_size, support_size, bits, seed):
    probs = np.random.default_rng(seed).dirichlet(np.full(vocab_size, 0.2), 3)
    laws = quantise(probs, support_size, bits)  # the constructor checks order, padding and sums
    assert (laws.sizes <= min(support_size, vocab_size, 1 << bits)).all()
    for row, law in zip(probs, laws.ids, strict=True):
        assert row.argmax() in law


def test_counts_are_within_one_of_the_exact_law():
    probs = np.random.default_rng(0).dirichlet(np.ones(30), 20)
    laws = quantise(probs, 30, 12)
    exact = np.take_along_axis(probs, laws.ids, -1) * 4096
    assert (np.abs(laws.counts - exact)[laws.counts > 0] <= 1.0).all()


def test_a_certain_token_takes_the_whole_law():
    laws = quantise(np.array([[0.0, 1.0, 0.0]]), 3, 8)
    assert laws.ids.tolist() == [[1]]
    assert laws.counts.tolist() == [[256]]


@pytest.mark.parametrize("vocab_size", [40, 50_000])
def test_combinatorial_size_counts_supports_and_compositions(vocab_size):
    laws = quantise(np.random.default_rng(1).dirichlet(np.full(40, 0.2), 20), 40, 10)
    exact = [log2(comb(vocab_size, size) * comb(1023, size - 1)) for size in laws.sizes.tolist()]
    assert np.allclose(laws.combinatorial_bits(vocab_size), exact, rtol=0, atol=1e-6)
    with pytest.raises(InvalidInput, match="needs a vocabulary"):
        laws.combinatorial_bits(1)


@pytest.mark.parametrize(
    ("ids", "counts", "bits", "word"),
    [
        ([[1, 2]], [[100, 100]], 8, "add up"),
        ([[2, 1]], [[128, 128]], 8, "ascending"),
        ([[1, 1]], [[128, 128]], 8, "ascending"),
        ([[1, 2]], [[300, -44]], 8, "1 or more"),
        ([[1, 2, 3]], [[128, 0, 128]], 8, "padding"),
        ([[1, 2]], [[256]], 8, "one count for each id"),
        ([[1]], [[1 << 17]], 17, "bits"),
    ],
)
def test_laws_that_do_not_hold_together_are_refused(ids, counts, bits, word):
    with pytest.raises(InvalidInput, match=word):
        LatticeLaws(np.array(ids), np.array(counts), bits)
