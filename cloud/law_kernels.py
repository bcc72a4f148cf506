"""What is kept of a row of logits, in one reading of it, in Triton.

Knows rows and temperatures; knows nothing of what is drawn from them. Needs Triton, which PyTorch's CUDA builds bring; on a CPU its
interpreter runs the same code, for tests.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096  # logits that are read at a time
_LOG2_E = 1.4426950408889634


def measured(logits: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Of each of `logits` `[M, V]` the highest, float32, and the share of the whole, float64, that it has over `temperature` `[M, 1]`:
    both `[M, 1]`. No row may hold +inf or NaN, or -inf alone.
    """
    num_rows, vocab_size = logits.shape
    highest = torch.empty_like(temperature)
    share = torch.empty(temperature.shape, dtype=torch.float64, device=logits.device)
    _measure[num_rows,](logits, temperature, highest, share, vocab_size, logits.stride(0), _LOG2_E, BLOCK=_BLOCK, num_warps=8)
    return highest, share


@triton.jit
def _measure(logits, temperature, highest, share, vocab_size, stride, log2_e, BLOCK: tl.constexpr) -> None:
    row = tl.program_id(0).to(tl.int64)
    sharpness = log2_e / tl.load(temperature + row)
    top = tl.full([BLOCK], float("-inf"), tl.float32)  # of each lane, as is its sum
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocab_size, BLOCK):
        token = start + tl.arange(0, BLOCK)
        x = tl.load(logits + row * stride + token, mask=token < vocab_size, other=float("-inf")).to(tl.float32)
        rising = tl.maximum(top, x)
        above = tl.where(rising == float("-inf"), 0.0, rising)  # without it -inf less -inf
        total = total * tl.exp2((top - above) * sharpness) + tl.exp2((x - above) * sharpness)
        top = rising
    most = tl.max(top, 0)
    tl.store(highest + row, most)
    tl.store(share + row, (1.0 / tl.sum(total * tl.exp2((top - most) * sharpness), 0)).to(tl.float64))
