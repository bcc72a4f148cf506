"""In what type a target's weights, keys and values are held.

Imports no model code, so that `cactus --help` is quick.
"""

from __future__ import annotations

from enum import StrEnum


class DType(StrEnum):
    """`AUTO` is float32 on a CPU and bfloat16 elsewhere. bfloat16 takes half the memory; processors that compute with it read it faster."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
