"""An exported model over rows of text: brings rows up to a text, and steps them on.

Knows ONNX Runtime, the graph's inputs and outputs, and rows and trees of keys and values; knows nothing of laws, nor of
what is drafted from the logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from cactus_core.coins import Ints
from edge.drafting.kv_rows import KvRows
from edge.drafting.kv_tree import KvTree
from edge.exporting.draft_shape import DraftShape

Logits = NDArray[np.float32]

# A prompt goes through the model in chunks: beyond this, activations grow and speed does not.
_CHUNK = 256


class OnnxRows:
    """R rows, R as large as was ever asked for, of which a text is caught up in the first few.

    What was run before is not run again where a text goes on from it: along a row, or along a path of the last tree.
    """

    def __init__(self, session: ort.InferenceSession, shape: DraftShape) -> None:
        """Takes the session over."""
        self.shape = shape
        self._session = session
        self._rows = KvRows(shape)
        self._views: dict[tuple[int, int], _View] = {}
        self._text: Ints = np.zeros(0, dtype=np.int64)
        # The last text that was run to its end, and what followed: kept because running the last token again, alone, would round otherwise.
        self._root: tuple[Ints, Logits] = self._text, np.zeros((1, shape.vocab_size), dtype=np.float32)
        self._tree: KvTree | None = None

    def catch_up(self, text: Ints, num_rows: int) -> Logits:
        """Rows 0..num_rows hold `text` `[N]`, N > 0, and nothing after it; returns the logits `[1, V]` that follow it.

        Neither is changed by later runs. `text` is kept: the caller must not change it.
        """
        best, start = self._held(text, num_rows)
        if start < len(text) or not np.array_equal(text, self._root[0]):
            start = min(start, len(text) - 1)  # at the least the last token runs again, for its logits
            self._root = text, self._run(text, start, best)
        self._share(text, num_rows, best)
        return self._root[1]

    def catch_up_with(self, tree: KvTree, num_rows: int) -> None:
        """Rows 0..num_rows hold the text of `tree`, and nothing after it; no logits are needed. `tree` is remembered from now on, and
        until then the one before.
        """
        best, start = self._held(tree.text, num_rows)
        if start < len(tree.text):
            self._root = tree.text, self._run(tree.text, start, best)
        self._share(tree.text, num_rows, best)
        self._tree = tree

    def _held(self, text: Ints, num_rows: int) -> tuple[int, int]:
        """The row that holds most of `text`, after what the remembered tree has of it was written there; and how much that is."""
        if num_rows > self._rows.num_rows:
            self._views.clear()
            self._rows.grow(num_rows)
        shared = self._rows.num_shared(text)
        best = int(shared.argmax())
        if self._tree is not None and shared[best] >= (base := len(self._tree.text)):
            tokens, kv = self._tree.along(text)
            if base + len(tokens) > shared[best]:
                self._rows.write(best, base, tokens, kv)
                shared[best] = base + len(tokens)
        return best, int(shared[best])

    def _run(self, text: Ints, start: int, row: int) -> Logits:
        """`row` holds `text`, of which it held all before `start` < N; the logits `[1, V]` that follow it."""
        self._rows.forget(row, start)
        view = self._view(row, 1)
        logits = self._root[1]
        for chunk in np.split(text[start:], range(_CHUNK, len(text) - start, _CHUNK)):
            logits = view.run(self._session, chunk[None, :], start)
            self._rows.hold(row, start, chunk)
            start += len(chunk)
        return logits.copy()

    def _share(self, text: Ints, num_rows: int, row: int) -> None:
        """Rows 0..num_rows hold `text` and nothing after it, as `row` does."""
        shared = self._rows.num_shared(text)
        self._rows.copy(row, num_rows, int(shared[:num_rows].min()), len(text))
        self._rows.forget(slice(num_rows), len(text))
        self._text = text

    def step(self, tokens: Ints, position: int) -> Logits:
        """The logits `[K, V]` that follow `tokens` `[K]` at `position` of rows 0..K; overwritten by the next run."""
        return self._view(0, len(tokens)).run(self._session, tokens[:, None], position)

    def hold(self, tokens: Ints) -> None:
        """Rows 0..K went on from the text caught up last with `tokens` `[K, N]`, all of them stepped."""
        self._rows.hold(slice(len(tokens)), len(self._text), tokens)

    def new_tree(self) -> KvTree:
        """A tree to follow the text caught up last. What is run in it is remembered until the next one is made."""
        self._tree = KvTree(self.shape, self._text)
        return self._tree

    def step_tree(self, tree: KvTree, tokens: Ints, above: Ints) -> Logits:
        """Adds `tokens` `[M]` below the slots `above` `[M]` of `tree`; the logits `[M, V]` that follow; overwritten by the next run.

        The tree's text must be the one caught up last, in M rows at least.
        """
        num_rows = len(tokens)
        positions = tree.lay(self._rows.buffer[:, :num_rows], above)
        logits = self._view(0, num_rows).run(self._session, tokens[:, None], positions)
        tree.add(tokens, above, self._rows.buffer[:, np.arange(num_rows), :, positions])
        return logits

    def _view(self, start: int, num_rows: int) -> _View:
        if (start, num_rows) not in self._views:
            self._views[start, num_rows] = _View.bind(self._session, self.shape, self._rows.buffer[:, start : start + num_rows])
        return self._views[start, num_rows]


@dataclass(frozen=True, slots=True)
class _View:
    """B neighbouring rows of the buffer, bound once to the graph's inputs and outputs, which are written in place."""

    binding: ort.IOBinding
    ids: NDArray[np.int64]  # [B, 1], bound but while S > 1
    last_position: NDArray[np.int32]
    num_positions: NDArray[np.int32]
    logits: Logits

    @classmethod
    def bind(cls, session: ort.InferenceSession, shape: DraftShape, kv: NDArray[np.float32]) -> _View:
        """`kv` `[2 * num_layers, B, num_kv_heads, max_positions, head_dim]` is past and present at once."""
        num_rows = kv.shape[1]
        view = cls(
            session.io_binding(),
            np.zeros((num_rows, 1), dtype=np.int64),
            np.zeros(num_rows, dtype=np.int32),
            np.zeros((), dtype=np.int32),
            np.zeros((num_rows, shape.vocab_size), dtype=np.float32),
        )
        view.binding.bind_cpu_input("input_ids", view.ids)
        value = ort.OrtValue.ortvalue_from_numpy  # shares the array's memory, and keeps the array alive
        view.binding.bind_ortvalue_input("last_position", value(view.last_position))
        view.binding.bind_ortvalue_input("num_positions", value(view.num_positions))
        view.binding.bind_ortvalue_output("logits", value(view.logits))
        for i, layer in enumerate(kv):
            name = f"{('key', 'value')[i % 2]}.{i // 2}"
            view.binding.bind_ortvalue_input(f"past_{name}", value(layer))
            view.binding.bind_ortvalue_output(f"present_{name}", value(layer))
        return view

    def run(self, session: ort.InferenceSession, ids: Ints, start: int | Ints) -> Logits:
        """Appends `ids` `[B, S]` from position `start` on, each row from its own where `start` is `[B]`; S > 1 only where B = 1.

        Returns the logits `[B, V]` after the last of them, in this view's own array: the next run overwrites it.
        """
        num_new = ids.shape[1]
        self.last_position[:] = start + num_new - 1
        self.num_positions[()] = self.last_position.max() + 1
        if num_new == 1:
            self.ids[:] = ids
            session.run_with_iobinding(self.binding)
            return self.logits
        self.binding.bind_cpu_input("input_ids", ids)
        try:
            session.run_with_iobinding(self.binding)
        finally:
            self.binding.bind_cpu_input("input_ids", self.ids)
        return self.logits
