"""Forwards captured once and replayed: on a GPU, launching a model's kernels one by one takes longer than small steps compute.

A step is padded to the next of a few sizes, each captured as a CUDA graph when it first comes. What does not fit is for whoever asks to
run as it comes. Knows models and tiles; knows nothing of sessions or of what tokens mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cloud.attention import AttentionPlan, slots_of
from cloud.pages import PagePool
from cloud.segment import Ints, Segment
from cloud.tiled_attention import TiledAttention, num_splits_for
from cloud.tiles import TILE_FIELDS, WORD, Int32s, Tiles, tiles_of

ROWS = (8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 448, 512, 640, 768, 896, 1024)
_FEW = 64  # rows whose logits are wanted, where not all are
_NODES = 512  # that a row's mask speaks of; of large steps, as many as there are rows
_PAGES = 1 << 14  # of all sessions in a step


@dataclass(frozen=True, slots=True)
class _Size:
    """`num_wanted` 0: the logits of every row."""

    num_rows: int
    num_wanted: int
    num_splits: int


class CapturedForwards:
    """Forwards of one model over one pool, whose spare slot takes what padding writes."""

    def __init__(self, model: Any, pool: PagePool, heads_per_kv_head: int) -> None:
        self._model, self.pool, self._heads_per_kv_head = model, pool, heads_per_kv_head
        self._steps: dict[_Size, _Step] = {}
        self._memory = torch.cuda.graph_pool_handle() if pool.keys.is_cuda else None
        if pool.keys.is_cuda:
            _compile(model)

    def warm(self, most_rows: int) -> None:
        """Captures the sizes that short texts ask for, up to so many rows."""
        for num_rows in ROWS:
            if num_rows <= most_rows:
                self._step(_Size(num_rows, 0, 1))

    def forward(self, tokens: Ints, positions: Ints, segments: Sequence[Segment], wanted: Ints | None) -> Tensor | None:
        """Logits `[M, V]` of the rows `wanted` `[M]`, or of all N; good until the next forward. None for what fits no size.

        `tokens` and `positions` `[N]` are those of the segments' nodes, one segment after the other.
        """
        seen, written = slots_of(segments)
        tiles = tiles_of(segments, seen, self._heads_per_kv_head)
        num_rows = next((size for size in ROWS if size >= len(tokens)), None)
        if num_rows is None or tiles.masks.shape[1] > _num_words(num_rows) or len(tiles.pages) > _PAGES:
            return None
        num_wanted = 0 if wanted is None else next(size for size in (min(_FEW, num_rows), num_rows) if size >= len(wanted))
        step = self._step(_Size(num_rows, num_wanted, num_splits_for(tiles, self.pool)))
        step.fill(tokens, positions, written, tiles, wanted)
        step.run()
        return step.logits[: len(tokens) if wanted is None else len(wanted)]

    def _step(self, size: _Size) -> _Step:
        if size not in self._steps:
            self._steps[size] = _Step(self._model, self.pool, size, self._memory)
        return self._steps[size]


def _compile(model: Any) -> None:
    """Fuses what lies between a layer's matrix products and its attention, which otherwise takes a third of a small step."""
    for layer in model.get_decoder().layers:
        layer.compile(dynamic=True)


def _num_words(num_rows: int) -> int:
    return -(-max(_NODES, num_rows) // WORD)


class _Step:
    """One size of step. All that changes from step to step lies in one array, so that it goes to the device in one copy."""

    def __init__(self, model: Any, pool: PagePool, size: _Size, memory: Any) -> None:
        n, device = size.num_rows, pool.keys.device
        shapes: dict[str, tuple[int, ...]] = {"tokens": (n,), "positions": (n,), "written": (n,), "wanted": (size.num_wanted,)}
        shapes |= {"work": (n, TILE_FIELDS), "masks": (n, _num_words(n)), "pages": (_PAGES,)}
        total = sum(int(np.prod(shape)) for shape in shapes.values())
        self._host = torch.zeros(total, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._device = torch.zeros(total, dtype=torch.int32, device=device)
        self._parts: dict[str, Int32s] = {}
        on: dict[str, Tensor] = {}
        start = 0
        for name, shape in shapes.items():
            stop = start + int(np.prod(shape))
            self._parts[name] = self._host[start:stop].view(shape).numpy()
            on[name] = self._device[start:stop].view(shape)
            start = stop
        self._first_page = total - _PAGES
        self._blank = np.zeros(self._first_page, dtype=np.int32)
        self._blank[2 * n : 3 * n] = pool.spare_slot
        self._host.numpy()[: self._first_page] = self._blank
        self._device.copy_(self._host)
        self.logits: Tensor
        self.run = self._prepared(lambda: self._forward(model, pool, size, on), memory)

    def fill(self, tokens: Ints, positions: Ints, written: Ints, tiles: Tiles, wanted: Ints | None) -> None:
        host, parts = self._host.numpy(), self._parts
        host[: self._first_page] = self._blank
        for name, values in (("tokens", tokens), ("positions", positions), ("written", written), ("wanted", wanted)):
            if values is not None:
                parts[name][: len(values)] = values
        parts["work"][: len(tiles.work)] = tiles.work
        parts["masks"][: len(tiles.masks), : tiles.masks.shape[1]] = tiles.masks
        parts["pages"][: len(tiles.pages)] = tiles.pages
        used = self._first_page + len(tiles.pages)
        self._device[:used].copy_(self._host[:used], non_blocking=True)

    def _forward(self, model: Any, pool: PagePool, size: _Size, on: dict[str, Tensor]) -> None:
        attend = TiledAttention(on["work"], on["pages"], on["masks"], size.num_splits)
        output = model(
            input_ids=on["tokens"].long()[None],
            position_ids=on["positions"].long()[None],
            use_cache=False,
            plan=AttentionPlan(pool, on["written"].long(), attend),
            logits_to_keep=on["wanted"].long() if size.num_wanted else 0,
        )
        self.logits = output.logits[0]

    def _prepared(self, forward: Callable[[], None], memory: Any) -> Callable[[], None]:
        """On a CPU `forward` itself, which tests run."""
        if not self._device.is_cuda:
            return forward
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(2):  # whatever is made on first use must be there
                forward()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
            forward()
        return graph.replay
