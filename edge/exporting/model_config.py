"""What a checkpoint's config.json says about a Llama-shaped model.

Knows the two architectures that can be exported and the keys that transformers 4 and 5 write; refuses by name whatever
the graph would silently get wrong. Knows nothing of tensors or of ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cactus_core.errors import InvalidInput, Unsupported

ARCHITECTURES = ("Qwen3ForCausalLM", "LlamaForCausalLM")
_REQUIRED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding: `kind` is default, linear or llama3; `factor` and what follows matter to those that scale."""

    kind: str
    theta: float
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192

    def tables(self, num_positions: int, head_dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """cos and sin of every angle, `[num_positions, head_dim / 2]` each."""
        # float32 from the start, as transformers computes them: at position 2000 the last bits of a frequency show.
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        frequencies = np.float32(1.0) / np.float32(self.theta) ** exponents
        if self.kind == "linear":
            frequencies = frequencies / np.float32(self.factor)
        elif self.kind == "llama3":
            frequencies = self._stretched(frequencies)
        angles = np.arange(num_positions, dtype=np.float32)[:, None] * frequencies.astype(np.float32)
        return np.cos(angles), np.sin(angles)

    def _stretched(self, frequencies: NDArray[np.float32]) -> NDArray[np.float32]:
        """Llama 3.1's rule: long waves are slowed by `factor`, short ones kept, those between interpolated."""
        turns = np.float32(self.original_max_positions) * frequencies / np.float32(2 * np.pi)
        kept = np.clip((turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor), 0.0, 1.0)
        return np.asarray(kept * frequencies + (1 - kept) * frequencies / self.factor, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a model whose every layer is full causal attention and a gated SiLU MLP."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    norm_epsilon: float
    rope: Rope
    tied_embeddings: bool
    attention_bias: bool
    mlp_bias: bool

    @property
    def normalises_heads(self) -> bool:
        """Whether queries and keys pass a norm of their own before they are rotated."""
        return self.architecture == "Qwen3ForCausalLM"


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """The config that `raw`, a config.json, describes.

    Raises `Unsupported` for what cannot be exported, `InvalidInput` for what is missing.
    """
    architecture = (raw.get("architectures") or ["no architecture"])[0]
    if architecture not in ARCHITECTURES:
        raise Unsupported(f"{architecture} cannot be exported as a draft; supported are {' and '.join(ARCHITECTURES)}")
    if missing := [key for key in _REQUIRED if key not in raw]:
        raise InvalidInput(f"config.json lacks {', '.join(missing)}; save the checkpoint again with transformers")
    _refuse_unknown(raw)
    num_heads = int(raw["num_attention_heads"])
    return ModelConfig(
        architecture=architecture,
        vocab_size=int(raw["vocab_size"]),
        hidden_size=int(raw["hidden_size"]),
        intermediate_size=int(raw["intermediate_size"]),
        num_layers=int(raw["num_hidden_layers"]),
        num_heads=num_heads,
        num_kv_heads=int(raw.get("num_key_value_heads") or num_heads),
        head_dim=int(raw.get("head_dim") or raw["hidden_size"] // num_heads),
        max_positions=int(raw["max_position_embeddings"]),
        norm_epsilon=float(raw["rms_norm_eps"]),
        rope=_parse_rope(raw),
        tied_embeddings=bool(raw.get("tie_word_embeddings", False)),
        attention_bias=bool(raw.get("attention_bias", False)),
        mlp_bias=bool(raw.get("mlp_bias", False)),
    )


def _refuse_unknown(raw: Mapping[str, Any]) -> None:
    if (activation := raw.get("hidden_act", "silu")) != "silu":
        raise Unsupported(f"hidden_act {activation!r} cannot be exported as a draft; only 'silu' can")
    layer_kinds = set(raw.get("layer_types") or ["full_attention"])
    windowed = raw.get("sliding_window") is not None and raw.get("use_sliding_window", True)
    if windowed or layer_kinds != {"full_attention"}:
        raise Unsupported("sliding-window attention cannot be exported as a draft; choose a model with full attention in every layer")
    if raw.get("quantization_config"):
        raise Unsupported("a quantised checkpoint cannot be exported as a draft; choose the one in float16, bfloat16 or float32")


def _parse_rope(raw: Mapping[str, Any]) -> Rope:
    # transformers 5 keeps all of it under rope_parameters; before, theta stood beside rope_scaling, where the kind was
    # once called `type`.
    fields = {
        "rope_theta": raw.get("rope_theta", 10000.0),
        **(raw.get("rope_scaling") or {}),
        **(raw.get("rope_parameters") or {}),
    }
    kind = fields.get("rope_type") or fields.get("type") or "default"
    partial = fields.get("partial_rotary_factor", raw.get("partial_rotary_factor")) or 1.0
    if kind not in ("default", "linear", "llama3") or partial != 1.0:
        shown = repr(kind) if partial == 1.0 else f"on {partial} of each head"
        raise Unsupported(f"rope {shown} cannot be exported as a draft; only whole-head 'default', 'linear' and 'llama3' can")
    theta = float(fields["rope_theta"])
    try:
        if kind == "linear":
            return Rope(kind, theta, factor=float(fields["factor"]))
        if kind == "llama3":
            return Rope(
                kind,
                theta,
                factor=float(fields["factor"]),
                low_freq_factor=float(fields["low_freq_factor"]),
                high_freq_factor=float(fields["high_freq_factor"]),
                original_max_positions=int(fields["original_max_position_embeddings"]),
            )
    except KeyError as missing:
        raise InvalidInput(f"config.json's rope of kind {kind!r} lacks {missing}; save the checkpoint again with transformers") from None
    return Rope(kind, theta)
