from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from cloud.checkpoint import load_checkpoint
from cloud.pages import PageTable
from cloud.segment import Segment, chain
from tests.cloud.conftest import VOCAB_SIZE, Pair

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton, whose interpreter runs a GPU's kernels on a CPU")
TREE = np.array([-1, 0, 0, 1, 2, 4])


def steps(pair: Pair, *, captured: bool) -> list[torch.Tensor]:
    """A prompt of which the last logits are wanted, then it decodes beside a tree, then a step of a size that came before."""
    from cloud.captured import CapturedForwards

    target = pair.target
    pool = target.new_pool(20)
    if captured:
        pool.keys.fill_(torch.nan)  # what padding writes is read by nobody
        pool.values.fill_(torch.nan)
        model, _ = load_checkpoint(str(pair.path), torch.float32)  # a CPU's own layout of the weights is no model's any more
        target._captured = CapturedForwards(model.eval(), pool, target._heads_per_kv_head)
    long, short = PageTable(pool), PageTable(pool)
    random = np.random.default_rng(0)
    logits = []
    try:
        with torch.inference_mode():
            logits.append(target.forward([chain(long, random.integers(VOCAB_SIZE, size=40), num_logits=1)]).clone())
            long.advance(40)
            tree = Segment(short, random.integers(VOCAB_SIZE, size=6), TREE)
            logits.append(target.forward([chain(long, [3]), tree]).clone())
            long.advance(1)
            short.commit([0, 2, 4])
            logits.append(target.forward([chain(short, [9, 4]), chain(long, [5])]).clone())
    finally:
        target._captured = None
    return logits


def test_a_padded_step_gives_what_the_step_itself_does(pair: Pair) -> None:
    for padded, plain in zip(steps(pair, captured=True), steps(pair, captured=False), strict=True):
        assert padded.shape == plain.shape
        assert torch.allclose(padded, plain, atol=1e-4)


def test_what_fits_no_size_is_run_as_it_comes(qwen3: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.captured.ROWS", (8,))
    for padded, plain in zip(steps(qwen3, captured=True), steps(qwen3, captured=False), strict=True):
        assert torch.allclose(padded, plain, atol=1e-4)
