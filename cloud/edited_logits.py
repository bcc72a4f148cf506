"""A step's logits as the requests' biases and penalties leave them, without a copy of what they leave alone.

Knows logits `[M, V]` on any device and the edits of some of their rows; knows nothing of temperature, of laws or of texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cactus_core.coins import Ints
from cactus_core.penalties import Edits
from cloud.transfer import sent


class EditedLogits:
    """`logits` `[M, V]`, which stay as they are, and `edits`: pairs of a first row, ascending, and what is done from that row on."""

    def __init__(self, logits: Tensor, edits: Sequence[tuple[int, Edits]] = ()) -> None:
        self._logits = logits
        self.num_rows, self.vocab_size = logits.shape
        self.device = logits.device
        edits = [(first, each) for first, each in edits if each.toll.size]
        self.is_edited = bool(edits)
        if edits:
            self._note(edits)

    def _note(self, edits: Sequence[tuple[int, Edits]]) -> None:
        """The edited values, found by `row * V + id`, in ascending order."""
        rows = np.concatenate([np.repeat(first + np.arange(len(each.toll)), len(each.ids)) for first, each in edits])
        ids = np.concatenate([np.tile(each.ids, len(each.toll)) for _, each in edits])
        self._start = np.searchsorted(rows, np.arange(self.num_rows + 1))
        self._ids = sent(ids, self.device)
        at = sent(rows, self.device)
        self._keys = at * self.vocab_size + self._ids
        bias, repetition, toll = (
            sent(np.concatenate(column), self.device)
            for column in (
                [np.tile(each.bias, len(each.toll)) for _, each in edits],
                [each.repetition.ravel() for _, each in edits],
                [each.toll.ravel() for _, each in edits],
            )
        )
        x = self._logits[at, self._ids].double() + bias
        self._values = (torch.where(x < 0, x * repetition, x / repetition) - toll).float()

    def rows(self, rows: Ints) -> Tensor:
        """`[n, V]` float32, not to be changed: it may be a view."""
        first = int(rows[0])
        if (rows == np.arange(first, first + len(rows))).all():
            part = self._logits[first : first + len(rows)]
        else:
            part = self._logits[sent(rows, self.device)]
        found = part.float()
        if not self.is_edited:
            return found
        num_edits = self._start[rows + 1] - self._start[rows]
        if not num_edits.any():
            return found
        place = np.repeat(np.arange(len(rows)), num_edits)
        which = np.arange(len(place)) - np.repeat(np.cumsum(num_edits) - num_edits, num_edits) + np.repeat(self._start[rows], num_edits)
        place_on, which_on = sent(np.stack([place, which]), self.device)
        found = found.clone() if found.dtype == part.dtype else found
        found[place_on, self._ids[which_on]] = self._values[which_on]
        return found

    def at(self, rows: Tensor, ids: Tensor) -> Tensor:
        """`[n, S]` float32: of each of `rows` `[n]` the tokens `ids` `[n, S]`."""
        found = self._logits[rows[:, None], ids].float()
        if not self.is_edited:
            return found
        keys = rows[:, None] * self.vocab_size + ids
        place = torch.searchsorted(self._keys, keys).clamp_(max=len(self._keys) - 1)
        return torch.where(self._keys[place] == keys, self._values[place], found)
