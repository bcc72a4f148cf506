"""Linear layers whose weights lie as a CPU's matrix kernels read them, laid out once instead of at every call.

Knows torch's oneDNN operators, those that `torch.compile` uses on a CPU; knows nothing of what the layers belong to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """What `linear` computes, to float rounding. It has no weight that anything else could read or train."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())  # noqa: SLF001  # no public name
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")  # noqa: SLF001  # no public name
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self._bias is not None}"


def pack_linears(model: nn.Module) -> int:
    """Replaces the model's linear layers in float32 on a CPU, where torch has the kernels; returns how many.

    A weight that nothing else holds is freed, so that memory grows by no more than those that are shared, as by tied embeddings.
    Subclasses of `nn.Linear`, as quantised ones are, stay as they are.
    """
    has_kernels: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_kernels or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return 0
    found = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear and _can_be_packed(module)]
    for name, linear in found:
        model.set_submodule(name, PackedLinear(linear))
    return len(found)


def _can_be_packed(linear: nn.Linear) -> bool:
    weight = linear.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and type(weight) is nn.Parameter
