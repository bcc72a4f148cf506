"""The target's laws: those of the core, row by row, whatever the neighbours ask for; and what is drawn from them."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import cloud.edges
import cloud.laws
from cactus_core import sampling as core
from cactus_core.coins import draw_at
from cactus_core.coupled import own_tokens
from cactus_core.gumbel import gumbel
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams
from cloud.laws import TargetLaws

V = 40
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]

params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1e-3, 0.3, 0.7, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 2, 7, V - 1, V, 10 * V]),
    # none is a sum of a few equal probabilities: which side of such an edge a token falls is up to the last bit
    top_p=st.sampled_from([1.0, 1e-6, 0.0131, 0.3137, 0.7351, 0.9573]),
    min_p=st.sampled_from([0.0, 0.0, 1e-3, 0.0713, 0.4177, 1.0]),
    presence_penalty=st.sampled_from([0.0, -0.7, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.4]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.3, 0.8]),
    logit_bias=st.sampled_from([(), (), ((3, 2.5),), ((V - 1, -100.0), (0, 1.0))]),
)


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture
def small_chunks(monkeypatch):
    """Temporaries of three rows, and blocks narrower than the vocabulary."""
    monkeypatch.setattr(cloud.laws, "_CHUNK", 3 * V)
    monkeypatch.setattr(cloud.laws, "_CHUNK_ON_GPU", 3 * V)
    monkeypatch.setattr(cloud.laws, "_BLOCK", 16)


def random_logits(rng, num_rows, steps):
    logits = rng.normal(size=(num_rows, V)) * 3
    if steps:  # ties, as bfloat16 makes them
        logits = np.round(logits * steps / 8) / steps * 8
    return logits.astype(np.float32)


def dense(laws, num_rows):
    return laws.at(np.arange(num_rows), np.tile(np.arange(laws.vocab_size), (num_rows, 1))).cpu().numpy()


def edited(params, rng):
    """A text, and the edits of the one row that follows it and of the rows after three drafted paths."""
    text = rng.integers(0, V, rng.integers(1, 30))
    paths = np.where(np.arange(3) < np.arange(4)[:, None], rng.integers(0, V, (4, 3)), -1)
    return Penalties(params, text, int(rng.integers(0, len(text) + 1))).after(paths)


@given(sessions=st.lists(params, min_size=1, max_size=6), seed=st.integers(0, 1 << 20), steps=st.sampled_from([4, 64, 0]))
@settings(max_examples=150, deadline=None)
def test_rows_are_shaped_as_the_core_shapes_them(sessions, seed, steps):
    rng = np.random.default_rng(seed)
    num_rows = np.full(len(sessions), 4)
    logits = random_logits(rng, 4 * len(sessions), steps)
    edits = [(4 * b, edited(each, rng)) for b, each in enumerate(sessions) if each.edits_logits]
    ours = dense(TargetLaws(torch.from_numpy(logits), sessions, num_rows, edits), len(logits))
    expected = logits.astype(np.float64)
    for first, each in edits:
        # As float32, like the device's: a tie is one there and here, or is none.
        expected[first : first + 4] = each.edited(logits[first : first + 4]).astype(np.float32)
    for b, each in enumerate(sessions):
        rows = slice(4 * b, 4 * b + 4)
        np.testing.assert_allclose(ours[rows], core.probabilities(expected[rows], each), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    [(0.7, 0, 1.0, 0.0), (1.3, 5, 1.0, 0.0), (1.0, 0, 0.8, 0.0), (0.6, 12, 0.9, 0.0), (1.0, 0, 1.0, 0.05), (1.2, 30, 0.95, 0.02)],
)
def test_rows_are_shaped_as_transformers_shapes_them(temperature, top_k, top_p, min_p, device):
    logits = torch.randn(64, 500, generator=torch.Generator().manual_seed(0)) * 4
    warped = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    if top_p < 1.0:
        warped = TopPLogitsWarper(top_p)(None, warped)
    if min_p:
        warped = MinPLogitsWarper(min_p)(None, warped)
    ours = dense(TargetLaws(logits.to(device), [SamplingParams(temperature, top_k, top_p, min_p)] * 64), 64)
    np.testing.assert_allclose(ours, warped.softmax(-1).numpy(), atol=1e-6)


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton, whose interpreter runs a GPU's kernels on a CPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_reading_of_a_row_finds_its_highest_and_the_share_of_that(dtype, device):
    from cloud.law_kernels import measured

    logits = torch.randn(6, 9000, generator=torch.Generator().manual_seed(0)) * 4
    logits[:, 100:8300] -= 5.0  # so that lanes meet what is higher, and lower, later
    logits[2:4, 5:8990] = -torch.inf  # whole lanes of it
    logits = logits.to(dtype).to(device)
    temperature = torch.tensor([[1.0], [0.7], [1.0], [1e-3], [2.0], [100.0]], device=device)
    highest, share = measured(logits, temperature)
    assert torch.equal(highest, logits.float().amax(-1, keepdim=True))
    expected = (logits.double() / temperature).softmax(-1).amax(-1, keepdim=True)
    torch.testing.assert_close(share, expected, rtol=1e-5, atol=0.0)


def test_a_nucleus_wider_than_expected_is_found_by_looking_further(monkeypatch):
    logits = torch.randn(8, 300, generator=torch.Generator().manual_seed(0))
    rows = [SamplingParams(1.0, 0, 0.9)] * 7 + [SamplingParams(1.0, 0, 0.05)]
    whole = dense(TargetLaws(logits, rows), 8)
    for likely in (20, 2):
        monkeypatch.setattr(cloud.edges, "_LIKELY_NUCLEUS", likely)
        assert np.array_equal(dense(TargetLaws(logits, rows), 8), whole)
    assert (whole[0] > 0).sum() > 20 > (whole[7] > 0).sum()


def test_a_nucleus_may_end_among_more_ties_than_top_k_asks_for():
    logits = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])
    law = dense(TargetLaws(logits, [SamplingParams(top_k=1, top_p=0.6)]), 1)
    assert law.tolist() == [[pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3), 0.0, 0.0]]


def test_a_row_that_keeps_everything_is_untouched_by_its_neighbours():
    logits = torch.randn(3, 3000, generator=torch.Generator().manual_seed(0))
    rows = [SamplingParams(), SamplingParams(top_p=0.5), SamplingParams(top_k=3)]
    np.testing.assert_allclose(dense(TargetLaws(logits, rows), 3)[0], logits[0].softmax(-1).numpy(), rtol=1e-5)


def test_greedy_rows_take_the_first_maximum_whatever_they_truncate(device):
    logits = torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.bfloat16, device=device)
    rows = [SamplingParams(0.0, 1, 0.1), SamplingParams(0.0)]
    assert dense(TargetLaws(logits, rows), 2).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert dense(TargetLaws(logits, [rows[0], SamplingParams(1.0)]), 2)[0].tolist() == [0.0, 1.0, 0.0]


def test_logits_are_left_as_they_were():
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    rows = [SamplingParams(0.5, 3, 0.5), SamplingParams(0.0), SamplingParams(repetition_penalty=1.5, logit_bias=((3, 4.0),))]
    edits = [(4, Penalties(rows[2], [3, 4, 5], 1).after(np.array([[-1], [7]])))]
    laws = TargetLaws(logits, rows, np.array([2, 2, 2]), edits)
    every = np.arange(6)
    laws.draw(every, np.full(6, 0.4))
    laws.draw_outside(every, np.zeros((6, 1), dtype=np.int64), np.full(6, 0.4))
    laws.own_tokens(every, every, every)
    laws.top(every, 4)
    assert torch.equal(logits, before)


def test_each_row_needs_its_parameters():
    with pytest.raises(ValueError, match="2 rows"):
        TargetLaws(torch.zeros(2, 5), [SamplingParams()])


KINDS = [
    SamplingParams(),
    SamplingParams(0.0),
    SamplingParams(0.7),
    SamplingParams(1.3, top_k=9),
    SamplingParams(top_p=0.8),
    SamplingParams(0.9, min_p=0.1),
    SamplingParams(presence_penalty=1.5, frequency_penalty=0.5, repetition_penalty=1.4, logit_bias=((2, 5.0), (9, -100.0))),
]


def laws_of_all_kinds(device, seed=0, dtype=torch.float32):
    """Four rows of each kind, with what the core makes of them `[28, V]`."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(random_logits(rng, 4 * len(KINDS), 0)).to(dtype)
    edits = [(4 * b, edited(each, rng)) for b, each in enumerate(KINDS) if each.edits_logits]
    laws = TargetLaws(logits.to(device), KINDS, np.full(len(KINDS), 4), edits)
    return laws, dense(laws, len(logits))


def test_a_token_is_drawn_where_the_core_draws_it(device, small_chunks):
    laws, probs = laws_of_all_kinds(device)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, len(probs), 4000)
    at = rng.random(4000)
    at[:200], at[200:400] = 0.0, 1.0 - 2.0**-53
    tokens = laws.draw(rows, at).cpu().numpy()
    assert (probs[rows, tokens] > 0).all()
    assert (tokens == draw_at(probs[rows], at[:, None])).mean() > 0.999  # but where rounding decides


def test_a_token_off_the_support_is_drawn_where_the_core_draws_it(device, small_chunks):
    laws, probs = laws_of_all_kinds(device)
    rng = np.random.default_rng(2)
    rows, at = rng.integers(0, len(probs), 2000), rng.random(2000)
    supports = np.where(rng.random((2000, 6)) < 0.8, rng.integers(0, V, (2000, 6)), V)
    outside = probs[rows]
    outside = np.append(outside, np.zeros((2000, 1)), -1)
    np.put_along_axis(outside, supports, 0.0, -1)
    outside = outside[:, :V]
    nothing = outside.sum(-1) == 0.0
    assert 0 < nothing.sum() < 1000  # greedy rows whose token is on the support: drawn from the whole law
    outside[nothing] = probs[rows][nothing]
    tokens = laws.draw_outside(rows, supports, at).cpu().numpy()
    assert (outside[np.arange(2000), tokens] > 0).all()
    assert (tokens == draw_at(outside, at[:, None])).mean() > 0.999


def test_own_tokens_are_the_cores(device, small_chunks):
    laws, probs = laws_of_all_kinds(device)
    rng = np.random.default_rng(3)
    rows, positions = rng.integers(0, len(probs), 1000), rng.integers(0, 5000, 1000)
    seeds = rng.integers(0, 1 << 64, 1000, dtype=np.uint64)
    expected = own_tokens(probs[rows], gumbel(seeds[:, None], positions[:, None], np.arange(V)[None, :]))
    assert np.array_equal(laws.own_tokens(rows, seeds, positions).cpu().numpy(), expected)


def test_a_processor_finds_the_own_tokens_that_a_device_finds(small_chunks):
    """A GPU's way, which runs on a processor too."""
    laws, _ = laws_of_all_kinds("cpu")
    rng = np.random.default_rng(4)
    rows, positions = rng.choice(np.flatnonzero(laws._is_whole), 500), rng.integers(0, 5000, 500)
    seeds = rng.integers(0, 1 << 64, 500, dtype=np.uint64)
    assert laws._own_on_host(rows, seeds, positions).equal(laws._own_on_device(rows, seeds, positions))


def test_own_tokens_of_many_positions_are_a_sample_of_the_law():
    laws, probs = laws_of_all_kinds("cpu")
    positions = np.arange(20_000)
    for row in (0, 16):
        counts = np.bincount(laws.own_tokens(np.full(20_000, row), np.full(20_000, 5), positions).numpy(), minlength=V)
        likely = probs[row] * 20_000 >= 5
        seen, expected = np.append(counts[likely], counts[~likely].sum()), np.append(probs[row][likely], probs[row][~likely].sum())
        seen, expected = seen[expected > 0], expected[expected > 0]
        assert chisquare(seen, expected / expected.sum() * seen.sum()).pvalue > 1e-4


def test_the_likeliest_tokens_come_with_their_logprobs_and_what_is_cut_off_last(device, small_chunks):
    laws, probs = laws_of_all_kinds(device)
    ids, logprobs = (part.cpu().numpy() for part in laws.top(np.arange(len(probs)), 12))
    with np.errstate(divide="ignore"):
        expected = np.sort(np.log(probs), -1)[:, ::-1][:, :12]
        np.testing.assert_allclose(logprobs, np.log(np.take_along_axis(probs, ids, -1)))
    np.testing.assert_allclose(logprobs, expected)
    assert np.isneginf(logprobs).any(-1).sum() >= 8  # the greedy, and top-k's


def test_no_more_likeliest_tokens_are_told_than_there_are():
    laws = TargetLaws(torch.zeros(1, 3), [SamplingParams()])
    assert sorted(laws.top(np.zeros(1, dtype=np.int64), 20)[0].tolist()[0]) == [0, 1, 2]


def test_bfloat16_logits_have_the_laws_of_the_same_numbers_in_float32(small_chunks):
    logits = torch.randn(len(KINDS), V, generator=torch.Generator().manual_seed(0)).bfloat16()
    one, other = (dense(TargetLaws(same, KINDS), len(KINDS)) for same in (logits, logits.float()))
    assert np.array_equal(one, other)


def test_rows_in_any_order_and_twice_are_each_themselves(small_chunks):
    laws, probs = laws_of_all_kinds("cpu")
    rows = np.array([25, 3, 3, 24, 0, 27, 26, 25])
    ids = np.random.default_rng(0).integers(0, V, (8, 5))
    np.testing.assert_array_equal(laws.at(rows, ids).numpy(), np.take_along_axis(probs[rows], ids, -1))
    np.testing.assert_array_equal(laws.at(torch.from_numpy(rows), torch.from_numpy(ids)).numpy(), laws.at(rows, ids).numpy())
    at = np.full(8, 0.37)
    singly = [int(laws.draw_outside(rows[[n]], ids[[n]], at[[n]])) for n in range(8)]
    assert laws.draw_outside(rows, ids, at).tolist() == singly


@pytest.mark.parametrize("vocab_size", [255, 256, 257, 700])
def test_vocabularies_that_fill_their_blocks_or_do_not_are_drawn_from_whole(vocab_size):
    laws = TargetLaws(torch.zeros(1, vocab_size), [SamplingParams()])
    every = np.arange(vocab_size)
    drawn = laws.draw(np.zeros(vocab_size, dtype=np.int64), (every + 0.5) / vocab_size).numpy()
    assert np.array_equal(drawn, every)
    supports = np.tile(every[None, :-1], (3, 1))
    assert laws.draw_outside(np.zeros(3, dtype=np.int64), supports, np.array([0.0, 0.5, 0.999])).tolist() == [vocab_size - 1] * 3
