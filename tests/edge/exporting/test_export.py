"""An exported draft computes what transformers computes, and says clearly what cannot be exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from cactus_core.errors import CactusError, InvalidInput, Unavailable, Unsupported
from edge.exporting import export as export_module
from edge.exporting.checkpoint import Checkpoint, locate
from edge.exporting.draft_shape import DraftShape
from edge.exporting.export import export
from edge.exporting.model_config import parse_config
from tests.edge.conftest import MAX_POSITIONS, VOCAB_SIZE, Pair

TEXT = np.random.default_rng(3).integers(0, VOCAB_SIZE, 90)


def run_prefixes(folder: Path, ends: list[int]) -> np.ndarray[Any, Any]:
    """Logits `[N, V]` after each of the N prefixes of TEXT, in one growing cache: the chunks differ in length."""
    session = ort.InferenceSession(folder / "draft.onnx", providers=["CPUExecutionProvider"])
    shape = DraftShape.from_metadata(session.get_modelmeta().custom_metadata_map, folder)
    past = [np.zeros((1, shape.num_kv_heads, shape.max_positions, shape.head_dim), np.float32)] * 2 * shape.num_layers
    names = [f"past_{kind}.{i}" for i in range(shape.num_layers) for kind in ("key", "value")]
    rows = []
    for start, end in zip([0, *ends], ends, strict=False):
        fed = {"input_ids": TEXT[None, start:end], "last_position": np.array([end - 1], np.int32)}
        fed["num_positions"] = np.array(end, np.int32)
        logits, *past = session.run(None, fed | dict(zip(names, past, strict=True)))
        rows.append(logits[0])
    return np.stack(rows)


def test_exported_logits_are_those_of_transformers(any_pair: Pair) -> None:
    ends = [1, 2, 40, 41, 42, 60, 90]
    with torch.no_grad():
        expected = any_pair.model(torch.from_numpy(TEXT)[None]).logits[0].numpy()[np.array(ends) - 1]
    np.testing.assert_allclose(run_prefixes(any_pair.exported, ends), expected, atol=1e-4)


def test_a_float32_export_computes_the_same_and_is_twice_as_large(pair: Pair, tmp_path: Path) -> None:
    export(pair.checkpoint, tmp_path, dtype="float32")
    np.testing.assert_allclose(run_prefixes(tmp_path, [9, 10]), run_prefixes(pair.exported, [9, 10]), atol=1e-5)
    sizes = [
        sum(t.ByteSize() for t in onnx.load(folder / "draft.onnx").graph.initializer if len(t.dims) == 2 and "weight" in t.name)
        for folder in (pair.exported, tmp_path)
    ]
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.1)


def test_tied_embeddings_are_stored_once(pair: Pair) -> None:
    wide = [t.name for t in onnx.load(pair.exported / "draft.onnx").graph.initializer if VOCAB_SIZE in t.dims]
    assert wide == ["model.embed_tokens.weight"]


def test_weights_move_to_their_own_file_when_they_are_many(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "_LARGEST_IN_ONE_FILE", 10_000)
    export(pair.checkpoint, tmp_path)
    names = {"draft.onnx", "draft.onnx.data", "tokenizer.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    np.testing.assert_array_equal(run_prefixes(tmp_path, [9]), run_prefixes(pair.exported, [9]))


def test_the_window_is_the_models_own_unless_another_is_asked_for(pair: Pair, tmp_path: Path) -> None:
    def window(folder: Path) -> int:
        metadata = {p.key: p.value for p in onnx.load(folder / "draft.onnx").metadata_props}
        return DraftShape.from_metadata(metadata, folder).max_positions

    assert window(pair.exported) == MAX_POSITIONS
    assert window(export(pair.checkpoint, tmp_path, max_positions=100)) == 100
    for beyond in (0, MAX_POSITIONS + 1):
        with pytest.raises(InvalidInput, match="max_positions must be between"):
            export(pair.checkpoint, tmp_path, max_positions=beyond)


def test_a_value_beyond_float16_is_refused_by_name(pair: Pair, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(pair.checkpoint, tmp_path / "large")
    weights = {name: tensor.float() for name, tensor in load_file(tmp_path / "large" / "model.safetensors").items()}
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, tmp_path / "large" / "model.safetensors")
    with pytest.raises(Unsupported, match=r"layers.1.mlp.up_proj.weight has values beyond float16"):
        export(tmp_path / "large", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (export(tmp_path / "large", tmp_path / "out", dtype="float32") / "draft.onnx").is_file()


def config_of(pair: Pair) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((pair.checkpoint / "config.json").read_text())
    return config


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, Unsupported, "MambaForCausalLM .* supported are Qwen3ForCausalLM and Llama"),
        ({"architectures": None}, Unsupported, "no architecture"),
        ({"hidden_act": "gelu"}, Unsupported, "hidden_act 'gelu'"),
        ({"use_sliding_window": True, "sliding_window": 64}, Unsupported, "sliding-window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, Unsupported, "sliding-window"),
        ({"quantization_config": {"quant_method": "gptq"}}, Unsupported, "quantised checkpoint"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, Unsupported, "rope 'yarn'"),
        ({"partial_rotary_factor": 0.5}, Unsupported, "rope on 0.5 of each head"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, InvalidInput, "lacks 'factor'"),
    ],
)  # fmt: skip
def test_what_the_graph_would_get_wrong_is_refused(pair: Pair, changed: dict[str, Any], kind: type[CactusError], message: str) -> None:
    with pytest.raises(kind, match=message):
        parse_config(config_of(pair) | changed)


def test_a_config_without_a_size_is_refused(pair: Pair) -> None:
    with pytest.raises(InvalidInput, match="lacks hidden_size"):
        parse_config({key: value for key, value in config_of(pair).items() if key != "hidden_size"})


def test_rope_is_read_alike_as_transformers_4_and_5_write_it(pair: Pair) -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    new = config_of(pair) | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **scaling}}
    old = config_of(pair) | {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **scaling}}
    del old["rope_parameters"]
    assert parse_config(new) == parse_config(old)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for source in (tmp_path / "nothing", str(tmp_path / "nothing"), "./nothing"):
        with pytest.raises(InvalidInput, match=r"there is no .*nothing"):
            export(source, tmp_path)


def test_a_name_that_the_hub_cannot_give_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"nobody/nothing is no folder here and the Hugging Face hub did not give it"):
        locate("nobody/nothing")


def test_a_name_that_no_hub_could_have_is_invalid() -> None:
    with pytest.raises(InvalidInput, match="neither a folder nor a model"):
        locate("not/a/name")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "is not a JSON object"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has neither model.safetensors nor"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"garbage"), "not a readable safetensors file"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
    ],
)
def test_a_damaged_checkpoint_says_what_is_wrong(pair: Pair, tmp_path: Path, damage: Any, message: str) -> None:
    shutil.copytree(pair.checkpoint, tmp_path / "damaged")
    damage(tmp_path / "damaged")
    with pytest.raises(InvalidInput, match=message):
        export(tmp_path / "damaged", tmp_path / "out")


def test_a_tensor_is_given_only_in_the_shape_that_was_asked_for(pair: Pair) -> None:
    checkpoint = Checkpoint.open(pair.checkpoint)
    with pytest.raises(InvalidInput, match=r"no tensor lm_head\.weight"):
        checkpoint.tensor("lm_head.weight", (1, 1))
    with pytest.raises(InvalidInput, match=r"model.norm.weight in .* is \[32\], but config.json makes it \[33\]"):
        checkpoint.tensor("model.norm.weight", (33,))


def test_a_missing_shard_is_named(pair: Pair, tmp_path: Path) -> None:
    shutil.copytree(pair.checkpoint, tmp_path / "sharded")
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidInput, match=r"lacks model-00001-of-00002.safetensors"):
        Checkpoint.open(tmp_path / "sharded")
