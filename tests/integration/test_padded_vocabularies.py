"""A draft and a target whose vocabularies are the same and padded to different widths, sharded checkpoints both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from cactus_core.acceptance import Acceptance
from cactus_core.demo_pair import demo_model
from cactus_core.sampling import SamplingParams
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.exporting.export import export
from edge.tokenizer import Tokenizer
from edge.tuning.plan import DEEPEST, FOR_EACH, TreePlan
from tests.integration.conftest import system

TARGET_WIDTH, DRAFT_WIDTH = 4128, 4224  # of 4096 tokens


def padded(source: str, folder: Path, width: int) -> Path:
    """The model with rows of zeros after its vocabulary's, as checkpoints are padded, in shards."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float16)
    before = model.config.vocab_size
    model.resize_token_embeddings(width, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[before:] = 0.0
    model.save_pretrained(folder, max_shard_size="3MB")
    assert (folder / "model.safetensors.index.json").is_file()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(source) / name, folder / name)
    return folder


@pytest.mark.parametrize("rule", ["coupled", "nearest+block"])
async def test_a_pair_that_is_padded_differently_writes_and_accepts_as_ever(tmp_path: Path, rule: str) -> None:
    target = padded(demo_model("target"), tmp_path / "target", TARGET_WIDTH)
    checkpoint = padded(demo_model("draft"), tmp_path / "checkpoint", DRAFT_WIDTH)
    drafter = OnnxDrafter.load(export(checkpoint, tmp_path / "draft", dtype="int8"))
    texts = []
    async with system(target) as endpoint:
        for drafts in (drafter, None):
            client = Completer(endpoint, Tokenizer.load(tmp_path / "draft"), drafts, Drafting(tree=TreePlan(16, DEEPEST, FOR_EACH)))
            completion = Completion("def read_config(path")
            sampling, acceptance = SamplingParams(0.7), Acceptance(rule)
            async for _ in client.generate(completion, max_tokens=48, sampling=sampling, seed=3, acceptance=acceptance):
                pass
            texts.append(completion)
    assert texts[0].summary.drafter_error == ""
    assert texts[0].summary.tokens_per_round > 1.5
    if rule == "coupled":
        assert texts[0].text == texts[1].text
