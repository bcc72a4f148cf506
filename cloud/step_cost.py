"""What a step costs on this machine, in the one number that planning needs.

Knows a target and time; knows nothing of sessions.
"""

from __future__ import annotations

import time

import torch

from cloud.pages import PAGE_SIZE, PageTable
from cloud.segment import chain
from cloud.target import TargetModel

_FEWEST, _MOST = 16, 256  # tokens
_LONGER = 1.5  # times what one token takes: no hiccup looks like that in each of the repeats
_REPEATS = 5


def measure_free_tokens(target: TargetModel, step_at_least_s: float = 0.0) -> float:
    """How many tokens take as long to read as a step takes anyway, 0 and more: where reading is bound by launches or by the
    weights' way from memory it is many, on a small CPU few. Runs the model for some steps, of more and more tokens until they clearly
    take longer than one. What steps are drawn out by, `step_at_least_s`, costs the same however many there are.
    """
    table = PageTable(target.new_pool(_MOST // PAGE_SIZE))
    one = _seconds(target, table, 1)
    num_tokens = _FEWEST
    while (many := _seconds(target, table, num_tokens)) < _LONGER * one and 4 * num_tokens <= min(_MOST, target.max_positions):
        num_tokens *= 4
    per_token = max((many - one) / (num_tokens - 1), 1e-9)
    return max(0.0, max(one, step_at_least_s) / per_token - 1.0)


def _seconds(target: TargetModel, table: PageTable, count: int) -> float:
    """The least of some: whatever disturbs one makes it longer."""
    taken = []
    for _ in range(1 + _REPEATS):
        started = time.perf_counter()
        target.forward([chain(table, [0] * count)])
        if target.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
        table.release()
    return min(taken[1:])  # the first is slower: whatever is made on first use is made then
