"""Drafters for the links' bench: the demo draft, and the worst one there is, of as many random weights.

Knows checkpoints and how they are exported; knows nothing of what is measured.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cactus_core.demo_pair import demo_model
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.exporting.export import export


def demo_drafter() -> OnnxDrafter:
    return OnnxDrafter.load(demo_model("draft"))


def random_drafter() -> OnnxDrafter:
    return OnnxDrafter.load(_random_draft())


@cache
def _random_draft() -> Path:
    """A folder that lasts as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="cactus-random-draft-"))
    demo = Path(demo_model("draft"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(demo)).half().save_pretrained(folder / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / name, folder / "checkpoint" / name)
    return export(folder / "checkpoint", folder / "exported")
