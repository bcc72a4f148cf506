"""Without a GPU, Triton's interpreter runs its kernels: it must be told before anything imports it."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
