"""The ONNX graph of a draft: Llama's shape over a KV buffer that never moves.

    ids [B, S] ─ embed ─┬─ norm ─ q, k, v ─ attend ─ o ─┬─ norm ─ gated MLP ─┬─ ... ─ norm ─ last ─ logits [B, V]
                        └───────────────────────────────┴────────────────────┘   (layers)

Attending is one GroupQueryAttention: it rotates, appends S positions to the layer's keys and values
`[B, num_kv_heads, max_positions, head_dim]`, and attends. Bound to one buffer as past and present it writes in place,
and to forget is to pass a smaller length. B > 1 needs S = 1. Knows nothing of how the graph is run, nor of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cactus_core.errors import Unsupported
from edge.exporting.block_quantisation import BLOCK, quantised
from edge.exporting.checkpoint import Checkpoint
from edge.exporting.draft_shape import DraftShape

Dtype = Literal["float16", "float32", "int8", "int4"]

_EMBEDDING = "model.embed_tokens.weight"
_OPSET, _IR_VERSION = 18, 10  # old enough for every ONNX Runtime that pyproject.toml allows
_CONTRIB = "com.microsoft"
_BITS = {"int8": 8, "int4": 4}
_HEAD_BITS = 8  # of the head, whatever the others have: its 4 bits more give back a quarter of the overlap that 4 bits cost the demo draft
_INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level: activations are rounded to 8 bits as well, which is what makes it fast


def build_graph(checkpoint: Checkpoint, *, dtype: Dtype, max_positions: int, num_tokens: int) -> onnx.ModelProto:
    """The model of `checkpoint`, with matrices stored as `dtype`; arithmetic is float32, but for products with matrices in 8 or 4 bits.

    Inputs `input_ids` `[B, S]` int64, `last_position` `[B]` and `num_positions` scalar, both int32, and `past_key.i`,
    `past_value.i`; outputs `logits` `[B, V]` of each row's last position, for the first `num_tokens` tokens at the most, and
    `present_key.i`, `present_value.i`. Raises `InvalidInput` where a tensor is missing or misshapen, `Unsupported` where one does not
    fit in `dtype`.
    """
    return _Graph(checkpoint, dtype, max_positions, num_tokens).build()


class _Graph:
    """A graph while it is being built. A method that adds nodes returns the name of what they compute."""

    def __init__(self, checkpoint: Checkpoint, dtype: Dtype, max_positions: int, num_tokens: int) -> None:
        self._checkpoint, self._config = checkpoint, checkpoint.config
        self._bits = _BITS.get(dtype)  # of matrices that are multiplied with; an embedding that is only looked up stays float16
        self._dtype = np.dtype("float16" if self._bits else dtype)
        config = self._config
        self._shape = DraftShape(min(num_tokens, config.vocab_size), max_positions, config.num_layers, config.num_kv_heads, config.head_dim)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._made: set[str] = set()  # of the quantised
        kv_shape: list[str | int | None] = ["B", config.num_kv_heads, max_positions, config.head_dim]
        value = helper.make_tensor_value_info
        self._inputs = [
            value("input_ids", TensorProto.INT64, ["B", "S"]),
            value("last_position", TensorProto.INT32, ["B"]),
            value("num_positions", TensorProto.INT32, []),
        ]
        self._outputs = [value("logits", TensorProto.FLOAT, ["B", self._shape.vocab_size])]
        for i in range(config.num_layers):
            for kind in ("key", "value"):
                self._inputs.append(value(f"past_{kind}.{i}", TensorProto.FLOAT, kv_shape))
                self._outputs.append(value(f"present_{kind}.{i}", TensorProto.FLOAT, kv_shape))

    def build(self) -> onnx.ModelProto:
        config = self._config
        for name, table in zip(("cos", "sin"), config.rope.tables(self._shape.max_positions, config.head_dim), strict=True):
            self._constant(name, table)
        self._constant("each_head", np.array([0, 0, -1, config.head_dim]))
        self._constant("all_heads", np.array([0, 0, -1]))
        hidden = self._embedded()
        for i in range(config.num_layers):
            prefix = f"model.layers.{i}."
            hidden = self._node("Add", [hidden, self._attention(hidden, prefix, i)], f"{prefix}attended")
            hidden = self._node("Add", [hidden, self._mlp(hidden, prefix)], f"{prefix}out")
        last = self._node(
            "Gather",
            [self._norm(hidden, "model.norm.weight", config.hidden_size), self._constant("minus_one", np.array(-1))],
            "last",
            axis=1,
        )
        self._head(last)
        graph = helper.make_graph(self._nodes, "draft", self._inputs, self._outputs, self._initializers)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="cactus")
        helper.set_model_props(model, self._shape.as_metadata())
        return model

    def _embedded(self) -> str:
        config = self._config
        if self._bits and config.tied_embeddings:
            return self._looked_up(_EMBEDDING, (config.vocab_size, config.hidden_size))
        embedding = self._matrix(_EMBEDDING, (config.vocab_size, config.hidden_size))
        # Rows are gathered before they are widened: the table then stays at its stored width in memory too.
        return self._widened(self._node("Gather", [embedding, "input_ids"], "embedded"))

    def _head(self, last: str) -> None:
        config, num_tokens = self._config, self._shape.vocab_size
        name, shape = _EMBEDDING if config.tied_embeddings else "lm_head.weight", (config.vocab_size, config.hidden_size)
        is_padded = num_tokens < config.vocab_size
        output = "logits_with_padding" if is_padded else "logits"
        if self._bits:
            self._product(last, name, shape, output, _HEAD_BITS)
        else:
            head = name if config.tied_embeddings else self._matrix(name, shape)
            self._node("Gemm", [last, self._widened(head)], output, transB=1)
        if is_padded:
            # What pads a vocabulary is nobody's token, and the target may be padded to less.
            first, end = self._constant("first_token", np.array([0])), self._constant("num_tokens", np.array([num_tokens]))
            self._node("Slice", [output, first, end, self._constant("of_logits", np.array([-1]))], "logits")

    def _attention(self, hidden: str, prefix: str, layer: int) -> str:
        config = self._config
        normed = self._norm(hidden, f"{prefix}input_layernorm.weight", config.hidden_size)
        query_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        query, key, value = (
            self._linear(normed, f"{prefix}self_attn.{which}_proj", config.hidden_size, size, bias=config.attention_bias)
            for which, size in (("q", query_size), ("k", kv_size), ("v", kv_size))
        )
        if config.normalises_heads:
            query = self._norm_heads(query, f"{prefix}self_attn.q_norm.weight")
            key = self._norm_heads(key, f"{prefix}self_attn.k_norm.weight")
        outputs = [f"{prefix}attention", f"present_key.{layer}", f"present_value.{layer}"]
        attended = self._node(
            "GroupQueryAttention",
            [
                query,
                key,
                value,
                f"past_key.{layer}",
                f"past_value.{layer}",
                "last_position",
                "num_positions",
                "cos",
                "sin",
            ],
            outputs,
            domain=_CONTRIB,
            num_heads=config.num_heads,
            kv_num_heads=config.num_kv_heads,
            do_rotary=1,
            scale=config.head_dim**-0.5,
        )
        return self._linear(attended, f"{prefix}self_attn.o_proj", query_size, config.hidden_size, bias=config.attention_bias)

    def _mlp(self, hidden: str, prefix: str) -> str:
        config = self._config
        normed = self._norm(hidden, f"{prefix}post_attention_layernorm.weight", config.hidden_size)
        gate, up = (
            self._linear(normed, f"{prefix}mlp.{which}_proj", config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
            for which in ("gate", "up")
        )
        silu = self._node("Mul", [gate, self._node("Sigmoid", [gate], f"{gate}.sigmoid")], f"{gate}.silu")
        gated = self._node("Mul", [silu, up], f"{prefix}mlp.gated")
        return self._linear(gated, f"{prefix}mlp.down_proj", config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def _linear(self, hidden: str, name: str, num_in: int, num_out: int, *, bias: bool) -> str:
        if self._bits:
            product = self._product(hidden, f"{name}.weight", (num_out, num_in), name, self._bits)
        else:
            weight = self._matrix(f"{name}.weight", (num_out, num_in), transposed=True)
            product = self._node("MatMul", [hidden, self._widened(weight)], name)
        if not bias:
            return product
        return self._node("Add", [product, self._vector(f"{name}.bias", num_out)], f"{name}.biased")

    def _norm(self, hidden: str, name: str, size: int) -> str:
        # RMSNorm, under the name that ONNX Runtime has for it in the default domain.
        return self._node(
            "SimplifiedLayerNormalization",
            [hidden, self._vector(name, size)],
            f"{name}.out",
            axis=-1,
            epsilon=self._config.norm_epsilon,
        )

    def _norm_heads(self, hidden: str, name: str) -> str:
        split = self._node("Reshape", [hidden, "each_head"], f"{name}.split")
        return self._node("Reshape", [self._norm(split, name, self._config.head_dim), "all_heads"], f"{name}.joined")

    def _product(self, left: str, name: str, shape: tuple[int, int], output: str, bits: int) -> str:
        """`left` times the transposed matrix of `shape` [N, K], which is stored in so few bits."""
        codes, scales = self._quantised(name, shape, bits)
        sizes = {"N": shape[0], "K": shape[1], "bits": bits, "block_size": BLOCK, "accuracy_level": _INT8_ACTIVATIONS}
        return self._node("MatMulNBits", [left, codes, scales], output, domain=_CONTRIB, **sizes)

    def _looked_up(self, name: str, shape: tuple[int, int]) -> str:
        """The rows of `input_ids`, from the codes of 8 bits that the head multiplies with: tied embeddings are stored once."""
        codes, scales = self._quantised(name, shape, _HEAD_BITS)
        rows = self._node("Gather", [codes, "input_ids"], f"{name}.rows")
        last = self._constant("last_axis", np.array([-1]))
        numbers = self._node("Cast", [rows], f"{name}.numbers", to=TensorProto.FLOAT)
        middle = self._constant("middle", np.array(1 << (_HEAD_BITS - 1), np.float32))
        steps = self._node("Sub", [numbers, middle], f"{name}.steps")
        scales_of_rows = self._node("Gather", [scales, "input_ids"], f"{name}.scales_of_rows")
        each_scale = self._node("Unsqueeze", [scales_of_rows, last], f"{name}.each_scale")
        blocks = self._node("Mul", [steps, each_scale], f"{name}.blocks")
        whole = self._node("Reshape", [blocks, self._constant("all_blocks", np.array([0, 0, -1]))], f"{name}.whole")
        if shape[1] % BLOCK == 0:
            return whole
        first, end = self._constant("from_0", np.array([0])), self._constant("hidden_size", np.array([shape[1]]))
        return self._node("Slice", [whole, first, end, last], "embedded")

    def _quantised(self, name: str, shape: tuple[int, int], bits: int) -> tuple[str, str]:
        """Names of a matrix's codes and scales, which are made once."""
        codes, scales = f"{name}.codes", f"{name}.scales"
        if codes not in self._made:
            self._made.add(codes)
            matrix = quantised(self._finite(name, shape, np.dtype(np.float32)), bits)
            self._constant(codes, matrix.codes)
            self._constant(scales, matrix.scales)
        return codes, scales

    def _matrix(self, name: str, shape: tuple[int, int], *, transposed: bool = False) -> str:
        matrix = self._finite(name, shape, self._dtype)
        return self._constant(name, matrix.T if transposed else matrix)

    def _finite(self, name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
        stored = self._checkpoint.tensor(name, shape)
        with np.errstate(over="ignore"):  # what overflows is refused by name, on the next line
            matrix = stored.astype(dtype)
        if not np.isfinite(matrix).all():
            raise Unsupported(f"{name} has values beyond {dtype}, or none at all; export with float32, or mend the checkpoint")
        return matrix

    def _vector(self, name: str, size: int) -> str:
        # Always float32: vectors weigh nothing, and the norms of some models leave float16's range.
        return self._constant(name, self._checkpoint.tensor(name, (size,)).astype(np.float32))

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def _widened(self, name: str) -> str:
        """`name` in float32. ONNX Runtime folds the Cast of a constant once, when the session is made."""
        if self._dtype == np.float32:
            return name
        return self._node("Cast", [name], f"{name}.widened", to=TensorProto.FLOAT)

    def _node(self, kind: str, inputs: Sequence[str], outputs: str | Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0]
