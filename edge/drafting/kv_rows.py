"""Which tokens each row's keys and values stand for, and the one buffer that they lie in.

Rollback costs nothing: a row that holds more than a text has in common with it is simply read less far.
Knows arrays; knows nothing of ONNX Runtime or of what wrote the buffer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Ints
from edge.exporting.draft_shape import DraftShape


class KvRows:
    """Keys and values of R rows, and their tokens.

    `buffer` is `[2 * num_layers, R, num_kv_heads, max_positions, head_dim]`, keys before values in each layer. Whoever
    writes positions into it says before that they are forgotten (`forget`) and after that they are held (`hold`), so
    that an interruption between the two leaves less known, never something false.
    """

    def __init__(self, shape: DraftShape) -> None:
        self._shape = shape
        self.buffer = self._new_buffer(0)
        self._tokens: Ints = np.zeros((0, shape.max_positions), dtype=np.int64)
        self._num_held: Ints = np.zeros(0, dtype=np.int64)

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self._num_held)

    def grow(self, num_rows: int) -> None:
        """Makes room for `num_rows` rows in a new buffer; views of the old one are stale. What was held still is."""
        old, num_old = self.buffer, self.num_rows
        furthest = int(self._num_held.max(initial=0))
        self.buffer = self._new_buffer(num_rows)
        self.buffer[:, :num_old, :, :furthest] = old[:, :, :, :furthest]
        self._tokens = np.concatenate([self._tokens, np.zeros((num_rows - num_old, self._shape.max_positions), dtype=np.int64)])
        self._num_held = np.concatenate([self._num_held, np.zeros(num_rows - num_old, dtype=np.int64)])

    def num_shared(self, text: Ints) -> Ints:
        """How many tokens at the start of `text` `[N]` each row holds, `[R]`."""
        held = np.arange(len(text)) < self._num_held[:, None]
        return np.asarray(np.logical_and.accumulate(held & (self._tokens[:, : len(text)] == text), axis=-1).sum(-1))

    def forget(self, rows: int | slice, start: int) -> None:
        """`rows` hold nothing from position `start` on."""
        self._num_held[rows] = np.minimum(self._num_held[rows], start)

    def hold(self, rows: int | slice, start: int, tokens: Ints) -> None:
        """`rows` hold all before position `start`, as they did, and now `tokens` `[N]` or `[rows, N]` from there."""
        stop = start + tokens.shape[-1]
        self._tokens[rows, start:stop] = tokens
        self._num_held[rows] = stop

    def write(self, row: int, start: int, tokens: Ints, kv: NDArray[np.float32]) -> None:
        """`row` holds all before position `start`, as it did, and now `tokens` `[N]`.

        `kv` are their keys and values, `[N, 2 * num_layers, num_kv_heads, head_dim]`.
        """
        self.forget(row, start)
        self.buffer[:, row, :, start : start + len(tokens)] = kv.transpose(1, 2, 0, 3)
        self.hold(row, start, tokens)

    def copy(self, source: int, num_rows: int, start: int, stop: int) -> None:
        """Rows 0..num_rows get positions start..stop of the row `source`; all agree on what comes before."""
        if start < stop and not (num_rows == 1 and source == 0):
            self.forget(slice(num_rows), start)
            self.buffer[:, :num_rows, :, start:stop] = self.buffer[:, source : source + 1, :, start:stop]
            self.hold(slice(num_rows), start, self._tokens[source, start:stop].copy())

    def _new_buffer(self, num_rows: int) -> NDArray[np.float32]:
        # Zeros are pages that the system hands out only when they are written: a long window costs what is used of it.
        shape: Any = (
            2 * self._shape.num_layers,
            num_rows,
            self._shape.num_kv_heads,
            self._shape.max_positions,
            self._shape.head_dim,
        )
        return np.zeros(shape, dtype=np.float32)
