"""Pools of a number a slot, and what lies in them."""

from __future__ import annotations

import torch

from cloud.pages import PagePool, PageTable


def small_pool(num_pages: int) -> PagePool:
    return PagePool(num_pages, num_layers=2, num_kv_heads=1, head_dim=1)


def write(table: PageTable, first: int, values: list[float]) -> None:
    slots = torch.from_numpy(table.slots(first, first + len(values)))
    table.pool.keys[:, 0, slots, 0] = torch.tensor(values)
    table.pool.values[:, 0, slots, 0] = -torch.tensor(values)


def read(table: PageTable) -> list[float]:
    slots = torch.from_numpy(table.slots(0, table.num_committed))
    keys, values = table.pool.keys[:, 0, slots, 0], table.pool.values[:, 0, slots, 0]
    assert (keys == -values).all()
    assert (keys[0] == keys[1]).all()
    return keys[0].tolist()
