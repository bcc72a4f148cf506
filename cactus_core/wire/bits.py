"""Strings of bits, many numbers at a time: the highest bit of a byte first, the last byte filled up with zeros.

A number is a *field*, of a width that is known, or *unary*: as many zeros as it says, then a one. Knows nothing of what
the numbers mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Ints
from cactus_core.errors import InvalidInput

Bits = NDArray[np.uint8]  # 0 or 1 each


def fields(values: Ints, widths: Ints) -> Bits:
    """The lowest `widths` `[N]` bits of `values` `[N]`."""
    shifts = np.repeat(np.cumsum(widths), widths)
    shifts -= np.arange(1, len(shifts) + 1)
    return ((np.repeat(values, widths) >> shifts) & 1).astype(np.uint8)


def unary(values: Ints) -> Bits:
    """`values` `[N]`, each at least 0."""
    ends = np.cumsum(values + 1)
    bits = np.zeros(ends[-1] if len(ends) else 0, dtype=np.uint8)
    bits[ends - 1] = 1
    return bits


def packed(*strings: Bits) -> bytes:
    """The strings, one after the other."""
    return np.packbits(np.concatenate(strings)).tobytes()


class BitReader:
    """Reads `data` from its first bit on. Raises `InvalidInput` where `data` ends before what is asked for."""

    def __init__(self, data: bytes) -> None:
        octets = np.frombuffer(data, dtype=np.uint8)
        self._bits = np.unpackbits(octets)
        self._ones = np.flatnonzero(self._bits.view(np.bool_))  # seven times as fast as on integers
        self._at = 0
        padded = np.append(np.zeros(4, dtype=np.uint8), octets).astype(np.int64)
        self._windows = padded[:-3] << 24 | padded[1:-2] << 16 | padded[2:-1] << 8 | padded[3:]  # the 32 bits before each byte

    def fields(self, widths: Ints) -> Ints:
        """The next fields, of `widths` `[N]` bits: at most 25, so that the four bytes up to its last bit hold each."""
        ends = self._at + np.cumsum(widths)
        end = int(ends[-1]) if len(ends) else self._at
        if end > len(self._bits):
            raise InvalidInput("a string of bits ends inside a number")
        self._at = end
        return np.asarray(self._windows.take((ends + 7) >> 3) >> (-ends & 7) & ((1 << widths) - 1))

    def unary(self, num: int) -> Ints:
        """The next `num` unary numbers, at least one."""
        first = int(np.searchsorted(self._ones, self._at))
        if len(self._ones) - first < num:
            raise InvalidInput("a string of bits ends inside a number")
        ends = self._ones[first : first + num]
        values = ends - 1
        values[1:] -= ends[:-1]
        values[0] -= self._at - 1
        self._at = int(ends[-1]) + 1
        return np.asarray(values)

    def close(self) -> None:
        """Raises `InvalidInput` where more is left than what fills the last byte up."""
        if len(self._bits) - self._at >= 8 or self._bits[self._at :].any():
            raise InvalidInput("a string of bits goes on after its last number")
