"""Vocabularies as real checkpoints have them: padded, each side to its own width, and with added tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from cactus_core.fingerprint import fingerprint
from cactus_core.sampling import SamplingParams
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.exporting.export import Dtype, export
from edge.tokenizer import Tokenizer
from tests.edge.conftest import VOCAB_SIZE, Pair
from tests.edge.exporting.test_export import run_prefixes

NUM_TOKENS = 90  # of VOCAB_SIZE, the rest being padding


@pytest.fixture
def padded(pair: Pair, tmp_path: Path) -> Path:
    """A checkpoint whose tokenizer has fewer tokens than its model has rows."""
    shutil.copytree(pair.checkpoint, tmp_path / "padded")
    words = {f"w{i}": i for i in range(NUM_TOKENS)}
    FastTokenizer(WordLevel(words, unk_token="w0")).save(str(tmp_path / "padded" / "tokenizer.json"))
    return tmp_path / "padded"


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_draft_never_drafts_what_pads_its_vocabulary(pair: Pair, padded: Path, tmp_path: Path, dtype: Dtype) -> None:
    folder = export(padded, tmp_path / "out", dtype=dtype)
    drafter = OnnxDrafter.load(folder)
    assert drafter.vocab_size == NUM_TOKENS < VOCAB_SIZE
    for seed in range(4):
        tree = drafter.draft_tree((1, 2, 3), num_nodes=48, max_depth=4, params=SamplingParams(2.0), seed=seed)
        block = drafter.draft((1, 2, 3), num_rows=8, length=4, params=SamplingParams(2.0), seed=seed)
        assert max(tree.tokens.max(), block.tokens.max(), block.laws.ids.max()) < NUM_TOKENS


def test_its_logits_are_otherwise_the_same(pair: Pair, padded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.edge.exporting.test_export.TEXT", np.arange(30))
    whole, cut = run_prefixes(pair.exported, [9, 10]), run_prefixes(export(padded, tmp_path / "out"), [9, 10])
    np.testing.assert_allclose(cut, whole[:, :NUM_TOKENS], atol=1e-5)


def test_a_padding_does_not_enter_the_fingerprint_and_added_tokens_do(tmp_path: Path) -> None:
    """Both sides see added tokens: the edge by `tokenizers`, the cloud by `transformers`."""
    made = FastTokenizer(WordLevel({f"w{i}": i for i in range(8)}, unk_token="w0"))
    made.save(str(tmp_path / "tokenizer.json"))
    bare = Tokenizer.load(tmp_path).fingerprint
    made.add_tokens([AddedToken("<|tool|>", normalized=False)])
    made.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>").save_pretrained(tmp_path)
    edge, cloud = Tokenizer.load(tmp_path), PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert edge.fingerprint == fingerprint(cloud.get_vocab()) != bare
    assert edge.vocab_size == 10
    assert edge.encode("w1<|tool|>w2<|im_end|>")[1::2] == (8, 9)
    pieces = edge.stream()
    assert "<|im_end|>" not in "".join(map(pieces, (1, 8, 2, 9)))


def test_added_tokens_in_another_file_than_the_vocabulary_are_still_one_vocabulary(tmp_path: Path) -> None:
    made = FastTokenizer(WordLevel({"w0": 0, "w1": 1}, unk_token="w0"))
    made.add_special_tokens([AddedToken("<|end|>", special=True)])
    PreTrainedTokenizerFast(tokenizer_object=made).save_pretrained(tmp_path)
    record = json.loads((tmp_path / "tokenizer.json").read_text("utf8"))
    assert [token["content"] for token in record["added_tokens"]] == ["<|end|>"]
    assert Tokenizer.load(tmp_path).vocab_size == 3
