"""A GPU's path against `transformers`' own forward of each sequence by itself, on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cloud.dtype import DType
from cloud.pages import PageTable
from cloud.segment import Segment, chain
from cloud.target import TargetModel
from tests.cloud.conftest import VOCAB_SIZE, Pair
from tests.core.drafts import path_to

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
MOST_TOKENS = 420  # of a text


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_ragged_steps_of_chains_and_trees_give_each_sequence_its_own_logits(pair: Pair, seed: int, captured: bool) -> None:
    random = np.random.default_rng(seed)
    target = TargetModel.load(str(pair.path), device="cuda", dtype=DType.FLOAT32)
    pool = target.new_pool(300)
    if captured:
        pool.keys.fill_(torch.nan)
        pool.values.fill_(torch.nan)
        target.capture(pool, 64)
    texts: list[list[int]] = [[] for _ in range(5)]
    tables = [PageTable(pool) for _ in texts]
    for _ in range(12):
        segments, expected, paths = [], [], []
        for text, table in zip(texts, tables, strict=True):
            if len(text) > MOST_TOKENS:
                table.release()
                text.clear()
            kind = random.integers(3)
            size = int(random.integers(1, (2, 90, 40)[kind]))
            tokens = random.integers(VOCAB_SIZE, size=size)
            parents = np.array([random.integers(-1, node) if kind == 2 else node - 1 for node in range(size)])
            segments.append(Segment(table, tokens, parents) if kind == 2 else chain(table, tokens))
            path = path_to(parents.tolist(), size - 1)
            paths.append(path)
            expected += [pair.logits([*text, *(int(tokens[i]) for i in path_to(parents.tolist(), node))])[-1] for node in range(size)]
            text += [int(tokens[i]) for i in path]
        logits = target.forward(segments).cpu()
        assert torch.allclose(logits, torch.stack(expected), atol=2e-3)
        for table, path in zip(tables, paths, strict=True):
            table.commit(path)
