"""The verifier's noise is the edge's: the same integers bit for bit, the same numbers, logarithms to their last bits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cactus_core import gumbel as core_gumbel
from cactus_core import noise as core
from cloud import noise

word = st.integers(0, (1 << 32) - 1) | st.sampled_from([0, 1, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
counters = st.lists(st.tuples(word, word, word, word), min_size=1, max_size=8)
keys = st.integers(0, (1 << 64) - 1) | st.sampled_from([0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])


def tensors(counter, key):
    """The same bits as int64."""
    return tuple(torch.tensor(column) for column in zip(*counter, strict=True)), torch.from_numpy(np.array([key], np.uint64).view(np.int64))


@given(counters, keys)
def test_integers_are_those_of_numpy_bit_for_bit(counter, key):
    ours = noise.philox(*tensors(counter, key))
    theirs = core.philox(tuple(np.array(column, dtype=np.uint64) for column in zip(*counter, strict=True)), key)
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == torch.int64
        assert our.tolist() == their.tolist()


@given(counters, keys)
def test_uniform_numbers_are_those_of_numpy_bit_for_bit(counter, key):
    ours = noise.uniform(*tensors(counter, key))
    assert ours.tolist() == core.uniform(tuple(np.array(column, dtype=np.uint64) for column in zip(*counter, strict=True)), key).tolist()


def test_noise_is_that_of_numpy_up_to_the_last_bits():
    seeds = np.array([[[0]], [[12345]], [[(1 << 64) - 1]]], dtype=np.uint64)
    positions, tokens = np.array([[0], [7], [(1 << 31) + 5]]), np.arange(5000)
    ours = noise.gumbel(torch.from_numpy(seeds.view(np.int64)), torch.from_numpy(positions), torch.from_numpy(tokens))
    assert ours.shape == (3, 3, 5000)
    np.testing.assert_allclose(ours.numpy(), core_gumbel.gumbel(seeds, positions, tokens), rtol=1e-15, atol=1e-15)


def test_a_whole_vocabularys_noise_is_that_of_its_tokens_on_either_side():
    seeds, positions = torch.tensor([5, -3, 5]), torch.tensor([1, 1, 70_000])
    whole = noise.whole_gumbel(seeds, positions, 9000)
    assert whole.equal(noise.gumbel(seeds[:, None], positions[:, None], torch.arange(9000)))
    for row, seed, position in zip(whole, (5, 2**64 - 3, 5), positions.tolist(), strict=True):
        np.testing.assert_allclose(noise.host_gumbel(seed, position, 9000), row, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("vocab_size", [100, 4096])
def test_what_was_made_ahead_is_the_same_and_made_once(monkeypatch, vocab_size):
    monkeypatch.setattr(noise, "_ahead", {})
    place = 2**64 - 3, 8, vocab_size
    expected, made, make = noise.host_gumbel(*place), [], noise._made
    monkeypatch.setattr(noise, "_made", lambda *place: made.append(place) or make(*place))
    for _ in range(2):
        noise.make_ahead(*place)
    assert made == [place]
    assert noise.host_gumbel(*place).tolist() == expected.tolist()
    assert made == [place]
    assert not noise._ahead


def test_no_more_is_made_ahead_than_has_room(monkeypatch):
    monkeypatch.setattr(noise, "_ahead", {})
    monkeypatch.setattr(noise, "_MOST_AHEAD", 2)
    for position in range(4):
        noise.make_ahead(1, position, 10)
    assert [position for _, position, _ in noise._ahead] == [2, 3]


def test_arguments_are_left_as_they_were():
    seeds, positions, tokens = torch.tensor(-3), torch.tensor([[4], [5]]), torch.arange(6)
    noise.gumbel(seeds, positions, tokens)
    assert (seeds.item(), positions.tolist(), tokens.tolist()) == (-3, [[4], [5]], list(range(6)))


def test_noise_is_finite_at_both_ends_of_the_generator(monkeypatch):
    ends = torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr(noise, "uniform", lambda counter, key: ends.clone())
    assert noise.gumbel(torch.tensor(0), torch.tensor(0), torch.tensor(0)).isfinite().all()
