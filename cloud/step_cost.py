"""What a step costs on this machine, in the one number that planning needs.

Knows a target and time; knows nothing of sessions.
"""

from __future__ import annotations

import time
from statistics import median

import torch

from cloud.pages import PageTable
from cloud.segment import chain
from cloud.target import TargetModel

_NUM_TOKENS = 16  # about what a step of few sessions reads
_REPEATS = 5


def measure_free_tokens(target: TargetModel, step_at_least_s: float = 0.0) -> float:
    """How many tokens take as long to read as a step takes anyway, 0 and more: where reading is bound by launches or by the
    weights' way from memory it is many, on a small CPU few. Runs the model for some steps. What steps are drawn out by,
    `step_at_least_s`, costs the same however many there are.
    """
    pool = target.new_pool(_NUM_TOKENS)
    one, many = (_seconds(target, PageTable(pool), count) for count in (1, 1 + _NUM_TOKENS))
    per_token = max((many - one) / _NUM_TOKENS, 1e-9)
    return max(0.0, max(one, step_at_least_s) / per_token - 1.0)


def _seconds(target: TargetModel, table: PageTable, count: int) -> float:
    taken = []
    for _ in range(1 + _REPEATS):
        started = time.perf_counter()
        target.forward([chain(table, [0] * count)])
        if target.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
        table.release()
    return median(taken[1:])  # the first is slower: whatever is made on first use is made then
