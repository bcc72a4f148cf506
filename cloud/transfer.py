"""From NumPy to a device, without waiting for what the device has in hand.

Knows arrays and devices; knows nothing of what they hold.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def sent(values: NDArray[Any], device: torch.device) -> Tensor:
    """`values` on the device, in the order of its work; on a CPU the same memory. An array may be changed as soon as this returns."""
    return torch.from_numpy(values).to(device, non_blocking=True)  # what is not pinned is copied before that returns
