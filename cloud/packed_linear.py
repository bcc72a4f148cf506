"""Linear layers whose weights lie as a CPU's matrix kernels read them, laid out once instead of at every call.

Knows torch's oneDNN operators, those that `torch.compile` uses on a CPU; knows nothing of what the layers belong to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """What `linears` compute of the same, their outputs one after the other, to float rounding. It has no weight that anything else could
    read or train.

    Besides by itself it can be had with the operation that a model has after it, which then costs no call and no pass over memory.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        """All have a bias, or none has."""
        super().__init__()
        weights = [linear.weight.detach() for linear in linears]
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        self.out_features, self.in_features = weight.shape
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)  # noqa: SLF001  # no public name
        self._bias = torch.cat(biases) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        return self._then("none", x)

    def silu(self, x: Tensor) -> Tensor:
        """SiLU of what `forward` returns."""
        return self._then("swish", x)

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """What `forward` returns and `other`, of its shape."""
        return self._with("add", x, other)

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """What `forward` returns times `other`, of its shape."""
        return self._with("mul", x, other)

    def _then(self, operation: str, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, operation, [], "")  # noqa: SLF001  # as above
        return y

    def _with(self, operation: str, x: Tensor, other: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self._packed, self._bias, operation)  # noqa: SLF001  # as above
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self._bias is not None}"


def pack_linears(model: nn.Module) -> int:
    """Replaces those of the model's linear layers that `can_be_packed`; returns how many.

    A weight that nothing else holds is freed, so that memory grows by no more than those that are shared, as by tied embeddings.
    """
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear) and can_be_packed(module)]
    for name, linear in found:
        model.set_submodule(name, PackedLinear(linear))
    return len(found)


def can_be_packed(linear: nn.Linear) -> bool:
    """Whether it is on a CPU, and torch has the kernels for its type: float32 or bfloat16. Subclasses, as quantised layers are, cannot."""
    if type(linear) is not nn.Linear or type(linear.weight) is not nn.Parameter or linear.weight.device.type != "cpu":
        return False
    return _has_kernels(linear.weight.dtype)


def _has_kernels(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))  # noqa: SLF001  # as above
