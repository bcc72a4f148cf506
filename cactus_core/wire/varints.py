"""Unsigned LEB128 integers, many at a time: seven bits a byte, lowest first, the high bit set on all but the last byte."""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Ints
from cactus_core.errors import InvalidInput

_MAX_BYTES = 5  # 35 bits: more than any id or count


def encode(values: Ints) -> bytes:
    """`values` `[N]`, each from 0 to 2^35 - 1."""
    values = np.asarray(values, dtype=np.uint64)
    places = np.arange(_MAX_BYTES, dtype=np.uint64)
    digits = (values[:, None] >> (places * np.uint64(7))) & np.uint64(0x7F)
    used = (values[:, None] >> (places * np.uint64(7))) > 0
    used[:, 0] = True
    more = np.concatenate([used[:, 1:], np.zeros_like(used[:, :1])], -1)
    return bytes((digits | (more.astype(np.uint64) << np.uint64(7)))[used].astype(np.uint8))


def encode_one(value: int) -> bytes:
    """As `encode` of that value alone, at a tenth of the cost."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def decode(data: bytes) -> Ints:
    """The integers `[N]` that `data` holds. Raises `InvalidInput` where it ends inside one, or one is too long."""
    octets = np.frombuffer(data, dtype=np.uint8)
    if not octets.size:
        return np.zeros(0, dtype=np.int64)
    ends = octets < 0x80
    if not ends[-1]:
        raise InvalidInput("a varint field ends inside a number")
    starts = np.concatenate([[0], np.flatnonzero(ends)[:-1] + 1])
    place = np.arange(octets.size) - np.repeat(starts, np.diff(np.append(starts, octets.size)))
    if place.max() >= _MAX_BYTES:
        raise InvalidInput(f"a varint field holds a number of more than {_MAX_BYTES} bytes")
    return np.add.reduceat((octets & 0x7F).astype(np.int64) << (7 * place), starts)
