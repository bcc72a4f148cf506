"""What holds for all tests: nothing here is timed, and without a GPU Triton's interpreter runs its kernels."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

settings.register_profile("cactus", deadline=None)  # machines are noisy
settings.load_profile("cactus")

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports it
