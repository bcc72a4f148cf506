"""A small target and draft that share a tokenizer, and the whole system around them in one process: real model code, real
ONNX Runtime, real gRPC through a gateway. Ray is met in tests/cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from cloud.service import VerifierServer
from cluster.gateway import GatewayServer
from cluster.router import Router
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.exporting.export import export
from edge.link import Endpoint
from edge.tokenizer import Tokenizer as EdgeTokenizer

VOCAB_SIZE = 8


class SmallPair(NamedTuple):
    target: Path
    draft: Path
    model: Qwen3ForCausalLM
    draft_model: Qwen3ForCausalLM

    def drafter(self) -> OnnxDrafter:
        return OnnxDrafter.load(self.draft)

    def tokenizer(self) -> EdgeTokenizer:
        return EdgeTokenizer.load(self.draft)


def make_model(folder: Path, seed: int, *, words: str = "w") -> Qwen3ForCausalLM:
    """A model of random weights that is sure of something everywhere, and its tokenizer, saved to `folder`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Qwen3Config(
            vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, max_position_embeddings=256, eos_token_id=0, initializer_range=0.25,
            tie_word_embeddings=False,
        )  # fmt: skip
        model = Qwen3ForCausalLM(config).eval().requires_grad_(False)
    model.half().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({f"{words}{i}": i for i in range(VOCAB_SIZE)}, unk_token=f"{words}0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=f"{words}0").save_pretrained(folder)
    return Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def small_pair(tmp_path_factory: pytest.TempPathFactory) -> SmallPair:
    folder = tmp_path_factory.mktemp("small")
    model, draft_model = make_model(folder / "target", 1), make_model(folder / "checkpoint", 2)
    return SmallPair(folder / "target", export(folder / "checkpoint", folder / "draft"), model, draft_model)


@asynccontextmanager
async def system(target: Path) -> AsyncIterator[Endpoint]:
    """A verifier and a gateway on loopback, and the edge's end of the wire to it."""
    async with VerifierServer(str(target), "127.0.0.1:0", memory_gib=0.1) as verifier:
        await verifier.loaded()
        async with GatewayServer("127.0.0.1:0", Router([f"127.0.0.1:{verifier.port}"])) as gateway:
            await gateway.ready()
            async with Endpoint(f"127.0.0.1:{gateway.port}") as endpoint:
                num_pages = verifier.engine.num_free_pages
                yield endpoint
                async with asyncio.timeout(10):  # a stream ends at the edge before it does at the verifier
                    while verifier.engine.num_free_pages < num_pages:  # noqa: ASYNC110  # the engine tells nobody
                        await asyncio.sleep(0.01)
