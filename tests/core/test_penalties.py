"""Bias and penalties: what is done to logits, by the text and by what is drafted after it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from cactus_core.penalties import Penalties, paths_to_nodes
from cactus_core.sampling import SamplingParams

V = 12
NO_DRAFT = np.full((1, 0), -1)
tokens = st.integers(0, V - 1)
params = st.builds(
    SamplingParams,
    presence_penalty=st.sampled_from([0.0, 0.5, -2.0]),
    frequency_penalty=st.sampled_from([0.0, 0.25, -0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.5, 0.5]),
    logit_bias=st.dictionaries(tokens, st.sampled_from([-100.0, -1.5, 2.0]), max_size=3).map(lambda biases: tuple(biases.items())),
)


def edited(params, logits, text, num_prompt, paths=NO_DRAFT):
    return Penalties(params, text, num_prompt).after(paths).edited(np.tile(logits, (len(paths), 1)))


def one_by_one(params, logits, prompt, emitted):
    """Each token of the vocabulary in turn, as the parameters' definitions say."""
    out = []
    for token, x in enumerate(logits):
        y = x + dict(params.logit_bias).get(token, 0.0)
        if token in (*prompt, *emitted):
            y = y * params.repetition_penalty if y < 0 else y / params.repetition_penalty
        y -= params.frequency_penalty * list(emitted).count(token) + params.presence_penalty * (token in emitted)
        out.append(y)
    return out


@given(
    params,
    st.lists(tokens, min_size=1, max_size=8),
    st.lists(tokens, max_size=8),
    st.lists(st.lists(tokens, max_size=4), max_size=4),
    st.integers(0, 999),
)
def test_every_token_is_treated_as_the_definitions_say_drafts_included(params, prompt, emitted, drafted, seed):
    logits = np.random.default_rng(seed).normal(size=V) * 3
    depth = max(map(len, drafted), default=0)
    paths = np.array([path + [-1] * (depth - len(path)) for path in drafted], dtype=np.int64).reshape(len(drafted), depth)
    out = edited(params, logits, prompt + emitted, len(prompt), paths)
    assert out.shape == (len(drafted), V)
    for row, path in zip(out, drafted, strict=True):
        assert row == pytest.approx(one_by_one(params, logits, prompt, emitted + path))


@given(params, st.lists(tokens, min_size=1, max_size=8), st.lists(tokens, max_size=6), st.integers(0, 999))
def test_drafting_a_token_changes_logits_as_having_emitted_it_does(params, text, path, seed):
    logits = np.random.default_rng(seed).normal(size=V)
    drafted = edited(params, logits, text, 1, np.array([path], dtype=np.int64).reshape(1, len(path)))
    assert drafted == pytest.approx(edited(params, logits, text + path, 1))


def test_repetition_is_that_of_transformers():
    logits = torch.randn(1, V, generator=torch.Generator().manual_seed(0))
    theirs = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([[3, 5, 5]]), logits.clone()).numpy()
    assert edited(SamplingParams(repetition_penalty=1.7), logits.numpy()[0], [3, 5, 5], 2) == pytest.approx(theirs)


def test_presence_and_frequency_count_what_was_emitted_and_repetition_the_prompt_too():
    counting = SamplingParams(presence_penalty=1.0, frequency_penalty=0.5)
    assert edited(counting, np.zeros(V), [3, 3, 4, 4, 5], 2)[0, 3:7].tolist() == [0.0, -2.0, -1.5, 0.0]
    assert edited(SamplingParams(repetition_penalty=2.0), np.ones(V), [3, 4], 1)[0, 2:6].tolist() == [1.0, 0.5, 0.5, 1.0]


def test_tokens_that_the_logits_lack_are_passed_over():
    biased = SamplingParams(logit_bias=((2, 1.0), (V + 5, 1.0)), repetition_penalty=2.0)
    assert edited(biased, np.zeros(V), [1], 1).tolist() == [[0.0, 0.0, 1.0, *[0.0] * (V - 3)]]


def test_logits_are_left_as_they_were():
    logits = np.ones((1, V))
    Penalties(SamplingParams(logit_bias=((2, 1.0),)), [1], 1).after(NO_DRAFT).edited(logits)
    assert (logits == 1.0).all()


@given(st.lists(tokens, max_size=10), st.data())
def test_the_path_to_a_node_is_its_own_token_and_those_before_it(ids, data):
    parents = [data.draw(st.integers(-1, n - 1)) for n in range(len(ids))]
    paths = paths_to_nodes(np.array(ids, dtype=np.int64), np.array(parents, dtype=np.int64))
    assert len(paths) == 1 + len(ids)
    for row, end in zip(paths, range(-1, len(ids)), strict=True):
        way, node = [], end
        while node >= 0:
            way.append(ids[node])
            node = parents[node]
        assert row.tolist() == way + [-1] * (paths.shape[1] - len(way))
