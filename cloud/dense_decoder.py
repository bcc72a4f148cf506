"""A plain decoder on a CPU: what `transformers`' Llama, Mistral, Qwen2 and Qwen3 compute, in half as many operations.

A small step spends much of its time between matrix products, on calls. So a layer's three first products are one, activations, products and
sums are done by the kernels that make their operands, and nothing is called that a step does not need.
Knows these architectures and a step's attention; knows nothing of sessions or of what tokens mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import LlamaForCausalLM, MistralForCausalLM, PreTrainedModel, Qwen2ForCausalLM, Qwen3ForCausalLM

from cloud.attention import AttentionPlan
from cloud.packed_linear import PackedLinear, can_be_packed

_ARCHITECTURES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
_STEADY_ROTARY = ("default", "linear", "llama3", "yarn")  # whose frequencies are the same for every length of text


class DenseDecoder:
    """`model`'s decoder and head. Takes their weights over: the model's own forward is then no more to be had.

    Raises nothing that `takes` does not rule out.
    """

    @staticmethod
    def takes(model: PreTrainedModel) -> bool:
        """Whether the model is one of them, whole, unquantised, on a CPU that has kernels for it, with frequencies that no text changes."""
        if type(model) not in _ARCHITECTURES:
            return False
        own: Any = model
        linears = [module for module in own.modules() if isinstance(module, nn.Linear)]
        return (
            own.config.hidden_act == "silu"
            and own.model.rotary_emb.rope_type in _STEADY_ROTARY
            and all(can_be_packed(linear) for linear in linears)
            and len(linears) == 7 * len(own.model.layers) + 1
        )

    def __init__(self, model: PreTrainedModel) -> None:
        own: Any = model
        decoder = own.model
        self._embedding = decoder.embed_tokens.weight.detach()
        self._frequencies, self._rotary_scale = decoder.rotary_emb.inv_freq.float(), decoder.rotary_emb.attention_scaling
        self._layers = []
        while len(decoder.layers):  # each is freed before the next is laid out
            self._layers.append(_Layer(decoder.layers.pop(0)))
        self._norm = _Norm.of(decoder.norm)
        self._head = PackedLinear(own.lm_head)
        own.lm_head = self._head

    def __call__(self, tokens: Tensor, positions: Tensor, plan: AttentionPlan, wanted: Tensor | None) -> Tensor:
        """Logits `[M, V]` of the nodes `wanted` `[M]`, or of all N. `tokens` and `positions` `[N]` are those of the plan's nodes."""
        angles = (positions.float()[:, None] * self._frequencies)[:, None]
        cos, sin = angles.cos() * self._rotary_scale, angles.sin() * self._rotary_scale
        x = embedding(tokens, self._embedding)
        turned = torch.cat((cos, cos), -1).to(x.dtype), torch.cat((-sin, sin), -1).to(x.dtype)
        for layer in self._layers:
            x = layer(x, *turned, plan)
        logits: Tensor = self._head(self._norm(x if wanted is None else x.index_select(0, wanted)))
        return logits


class _Layer:
    """One layer, of N nodes `[N, hidden]`."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
        self._index: int = attention.layer_idx
        self._scale: float = attention.scaling
        self._head_dim: int = attention.head_dim
        self._num_heads, self._num_kv_heads = q.out_features // self._head_dim, k.out_features // self._head_dim
        self._before_attention, self._before_mlp = _Norm.of(layer.input_layernorm), _Norm.of(layer.post_attention_layernorm)
        self._qk_norm: _Norm | None = None
        if hasattr(attention, "q_norm"):  # queries and keys together, each head by the weight of its kind
            kinds = (attention.q_norm, self._num_heads), (attention.k_norm, self._num_kv_heads)
            by_head = torch.cat([norm.weight.detach().expand(num_heads, -1) for norm, num_heads in kinds])
            self._qk_norm = _Norm(by_head, attention.q_norm.variance_epsilon)
        self._qkv, self._out = PackedLinear(q, k, v), PackedLinear(attention.o_proj)
        self._gate, self._up, self._down = PackedLinear(mlp.gate_proj), PackedLinear(mlp.up_proj), PackedLinear(mlp.down_proj)

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, plan: AttentionPlan) -> Tensor:
        """`cos` and `sin` `[N, 1, head_dim]`, the first half of the sines negated."""
        num_qk = self._num_heads + self._num_kv_heads
        qkv = self._qkv(self._before_attention(x)).view(len(x), -1, self._head_dim)
        qk, v = qkv[:, :num_qk], qkv[:, num_qk:]
        if self._qk_norm is not None:
            qk = self._qk_norm(qk)
        qk = torch.addcmul(qk * cos, qk.roll(self._head_dim // 2, -1), sin).transpose(0, 1)
        attended = plan.write_and_attend(self._index, qk[: self._num_heads], qk[self._num_heads :], v.transpose(0, 1), self._scale)
        x = self._out.plus(attended.reshape(len(x), -1), x)
        read = self._before_mlp(x)
        return self._down.plus(self._up.times(read, self._gate.silu(read)), x)


@dataclass(frozen=True, slots=True)
class _Norm:
    """Root mean square normalisation over the last axis. `weight` is of its length, or `[H, length]` for each of H heads."""

    weight: Tensor
    epsilon: float

    @classmethod
    def of(cls, norm: Any) -> Self:
        return cls(norm.weight.detach(), norm.variance_epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        # torch's own `rms_norm` is several passes over memory on a CPU, and of many small heads ten times as slow.
        norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        mean_square = norm.square_().mul_(1 / x.shape[-1])
        return (x * mean_square.add_(self.epsilon).rsqrt_()).to(x.dtype).mul_(self.weight)
