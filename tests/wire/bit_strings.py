"""Strings of bits as the proto speaks of them, read one by one and written from numbers: not by the codec's own reader."""

from __future__ import annotations

import numpy as np

from cactus_core.wire.bits import fields, packed, unary


class DocumentedBits:
    """Reads `data` bit by bit, in the words of the proto."""

    def __init__(self, data):
        self._stream = iter("".join(f"{octet:08b}" for octet in data))

    def field(self, width):
        return int("0" + "".join(next(self._stream) for _ in range(width)), 2)

    def unary_number(self):
        zeros = 0
        while next(self._stream) == "0":
            zeros += 1
        return zeros

    def rest(self):
        return list(self._stream)


def string(*numbers):
    """Of unary numbers, given as such, and of fields, given as (value, width)."""
    return packed(*(unary(np.array([n])) if isinstance(n, int) else fields(*np.array(n)[:, None]) for n in numbers))
