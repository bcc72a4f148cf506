"""Drafts in 8 and 4 bits guess nearly what the whole ones guess, and say truly what they guess."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cactus_core.demo_pair import demo_model
from cactus_core.sampling import SamplingParams
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.exporting.block_quantisation import BLOCK, quantised
from edge.exporting.export import export
from edge.tokenizer import Tokenizer
from tests.edge.conftest import VOCAB_SIZE, Pair
from tests.edge.exporting.test_export import run_prefixes

MATRIX = np.random.default_rng(0).standard_normal((24, 80)).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_weight_is_off_by_half_a_step_at_most_and_the_farthest_of_a_block_hardly(bits: int) -> None:
    coded = quantised(MATRIX, bits)
    error = np.abs(coded.restored() - MATRIX)
    steps = np.repeat(np.abs(coded.scales), BLOCK, axis=1)[:, :80]
    # A weight opposite to the farthest may lack the last code: then it is off by up to a whole step.
    assert (error <= steps * 1.001).all()
    assert np.mean(error <= 0.501 * steps) > 0.95
    assert coded.codes.shape == (24, 3, BLOCK * bits // 8)
    assert error[0, np.abs(MATRIX[0, :BLOCK]).argmax()] < 1e-6


def test_a_block_of_zeros_stays_zeros() -> None:
    assert not quantised(np.zeros((2, 40), np.float32), 4).restored().any()


@pytest.mark.parametrize("bits", [4, 8])
def test_onnx_runtime_reads_the_codes_as_they_were_meant(bits: int) -> None:
    coded = quantised(MATRIX, bits)
    node = onnx.helper.make_node(
        "MatMulNBits", ["x", "codes", "scales"], ["y"], domain="com.microsoft", N=24, K=80, bits=bits, block_size=BLOCK
    )
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [value("x", onnx.TensorProto.FLOAT, [3, 80])],
        [value("y", onnx.TensorProto.FLOAT, [3, 24])],
        [onnx.numpy_helper.from_array(coded.codes, "codes"), onnx.numpy_helper.from_array(coded.scales, "scales")],
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    x = np.random.default_rng(1).standard_normal((3, 80)).astype(np.float32)
    (y,) = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(y, x @ coded.restored().T, atol=1e-4)


def test_a_draft_of_any_shape_in_8_bits_computes_about_the_same(any_pair: Pair, tmp_path: Path) -> None:
    ends = [9, 10, 40]
    whole, coded = run_prefixes(any_pair.exported, ends), run_prefixes(export(any_pair.checkpoint, tmp_path, dtype="int8"), ends)
    assert np.corrcoef(whole.ravel(), coded.ravel())[0, 1] > 0.995


def test_tied_embeddings_are_stored_once_in_8_bits_too(pair: Pair, tmp_path: Path) -> None:
    export(pair.checkpoint, tmp_path, dtype="int4")
    wide = [t.name for t in onnx.load(tmp_path / "draft.onnx").graph.initializer if VOCAB_SIZE in t.dims]
    assert sorted(wide) == ["model.embed_tokens.weight.codes", "model.embed_tokens.weight.scales"]


@pytest.mark.parametrize(("dtype", "least", "size"), [("int8", 0.985, 0.65), ("int4", 0.88, 0.5)])
def test_a_quantised_demo_draft_keeps_its_overlap_and_is_smaller(tmp_path: Path, dtype: str, least: float, size: float) -> None:
    demo = Path(demo_model("draft"))
    folders = [export(demo, tmp_path / name, dtype=name) for name in ("float16", dtype)]  # type: ignore[arg-type]
    text = Tokenizer.load(demo).encode(
        "def read_config(path):\n    with open(path) as file:\n        return json.load(file)\n\nclass Parser:\n"
    )
    laws = []
    for folder in folders:
        drafter = OnnxDrafter.load(folder)
        logits = np.stack([drafter._rows.catch_up(np.array(text[:end]), 1)[0] for end in range(1, len(text))])
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        laws.append(weights / weights.sum(-1, keepdims=True))
    assert np.minimum(*laws).sum(-1).mean() > least
    sizes = [(folder / "draft.onnx").stat().st_size for folder in folders]
    assert sizes[1] < size * sizes[0]


def test_a_block_carries_the_laws_that_a_quantised_draft_drew_from(pair: Pair, tmp_path: Path) -> None:
    """So that what stands is exact whatever quantisation did to the draft."""
    drafter = OnnxDrafter.load(export(pair.checkpoint, tmp_path, dtype="int8"))
    block = drafter.draft((1, 2, 3), num_rows=4, length=3, params=SamplingParams(1.0), seed=5)
    for row in range(4):
        for place in range(3):
            law = block.law_of[row, place]
            ids = block.laws.ids[law][block.laws.counts[law] > 0]
            assert block.tokens[row, place] in ids
