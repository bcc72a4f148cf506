"""Matrices in 8 or 4 bits, in blocks of 32 along the inputs, as ONNX Runtime's MatMulNBits reads them.

A block of weights w is scale · (code - middle), with codes of `bits` bits and `scale` the largest |w| over the largest code on its side.
Symmetric, so that no zero points are stored. Knows arrays; knows nothing of graphs or of checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedMatrix:
    """Of a matrix `[N, K]`: `codes` uint8 `[N, ceil(K / 32), 32 * bits / 8]`, the lower half of a byte first, and `scales` float32
    `[N, ceil(K / 32)]`.
    """

    bits: int
    num_inputs: int
    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]

    def restored(self) -> NDArray[np.float32]:
        """The matrix `[N, K]` that the codes stand for."""
        codes = self.codes
        if self.bits == 4:
            codes = np.stack([codes & 0xF, codes >> 4], -1).reshape(*codes.shape[:2], BLOCK)
        blocks = (codes.astype(np.float32) - _middle(self.bits)) * self.scales[..., None]
        return blocks.reshape(len(blocks), -1)[:, : self.num_inputs]


def quantised(matrix: NDArray[Any], bits: int) -> QuantisedMatrix:
    """`matrix` `[N, K]`, any float, in 8 or 4 bits; the last block is filled with zeros."""
    num_outputs, num_inputs = matrix.shape
    num_blocks = -(-num_inputs // BLOCK)
    weights = np.zeros((num_outputs, num_blocks * BLOCK), dtype=np.float32)
    weights[:, :num_inputs] = matrix
    blocks = weights.reshape(num_outputs, num_blocks, BLOCK)
    middle = _middle(bits)
    # The weight farthest from 0 gets the one code that has no opposite: -middle reaches one step further than middle - 1.
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)[..., 0]
    scales = farthest / -middle
    steps = np.divide(blocks, scales[..., None], out=np.zeros_like(blocks), where=scales[..., None] != 0)
    codes = np.clip(np.rint(steps) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        codes = codes[..., ::2] | codes[..., 1::2] << 4
    return QuantisedMatrix(bits, num_inputs, codes, scales.astype(np.float32))


def _middle(bits: int) -> int:
    return 1 << (bits - 1)
