"""What a request's bias and penalties do to logits: of each row, only the tokens that they name or that occur are touched.

The order is that of vLLM, and of `transformers` as far as it has them: bias, repetition, frequency and presence. At a
drafted place the text is what was committed and the drafts up to there, so that a law is the same whether or not they came.
Knows texts and paths as token ids; knows nothing of models or of the rest of sampling. cloud/edited_logits.py has the device's side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cactus_core.coins import Bools, Floats, Ints
from cactus_core.sampling import SamplingParams


@dataclass(frozen=True, slots=True, eq=False)
class Edits:
    """For R rows of logits, what becomes of the tokens `ids` `[U]`, ascending: x gets its `bias` `[U]`; is then divided by
    `repetition` `[R, U]` where positive, multiplied by it where negative; and then gives up `toll` `[R, U]`.
    """

    ids: Ints
    bias: Floats
    repetition: Floats
    toll: Floats

    def edited(self, logits: NDArray[np.floating]) -> Floats:
        """A copy of `logits` `[R, V]`, edited. Tokens that it lacks are passed over: a draft may have fewer than its target."""
        edited = np.array(logits, dtype=np.float64)
        there = slice(np.searchsorted(self.ids, edited.shape[1]))
        ids, repetition = self.ids[there], self.repetition[:, there]
        x = edited[:, ids] + self.bias[there]
        edited[:, ids] = np.where(x < 0, x * repetition, x / repetition) - self.toll[:, there]
        return edited


class Penalties:
    """A request's bias and penalties at a text, whose first `num_prompt` tokens are the prompt."""

    def __init__(self, params: SamplingParams, text: Sequence[int] | Ints, num_prompt: int) -> None:
        self._params = params
        is_prompt_seen = params.repetition_penalty != 1.0
        seen = np.asarray(text[0 if is_prompt_seen else num_prompt :] if params.counts_tokens else (), dtype=np.int64)
        emitted = np.asarray(text[num_prompt:] if params.counts_tokens else (), dtype=np.int64)
        biased = np.array([token for token, _ in params.logit_bias], dtype=np.int64)
        self._ids = np.unique(np.concatenate([seen, biased]))
        self._num_emitted = np.bincount(np.searchsorted(self._ids, emitted), minlength=len(self._ids))
        self._is_seen = np.zeros(len(self._ids), dtype=np.bool_)
        self._is_seen[np.searchsorted(self._ids, seen)] = True
        self._bias = np.zeros(len(self._ids))
        self._bias[np.searchsorted(self._ids, biased)] = [bias for _, bias in params.logit_bias]

    def after(self, paths: Ints) -> Edits:
        """The edits where each of `paths` `[R, D]` of drafted tokens follows the text; -1 is no token."""
        if not self._params.counts_tokens:
            shape = len(paths), len(self._ids)
            return Edits(self._ids, self._bias, np.ones(shape), np.zeros(shape))
        rows, depths = np.nonzero(paths >= 0)
        drafted = paths[rows, depths]
        ids = np.union1d(self._ids, drafted)
        known = np.searchsorted(ids, self._ids)
        num_emitted = np.zeros((len(paths), len(ids)))
        num_emitted[:, known] = self._num_emitted
        np.add.at(num_emitted, (rows, np.searchsorted(ids, drafted)), 1)
        is_seen: Bools = num_emitted > 0
        toll = self._params.frequency_penalty * num_emitted + self._params.presence_penalty * is_seen
        is_seen[:, known] |= self._is_seen
        bias = np.zeros(len(ids))
        bias[known] = self._bias
        return Edits(ids, bias, np.where(is_seen, self._params.repetition_penalty, 1.0), toll)


def paths_to_nodes(tokens: Ints, parents: Ints) -> Ints:
    """`[1 + N, D]`: the drafted tokens on the way to each place of a tree, the end of the text first; -1 where there is none.

    `tokens`, `parents` `[N]`: a parent comes before its children, or is -1. Only which tokens are on a way is said, the last first.
    """
    place = np.arange(-1, len(tokens))
    levels = []
    while (on_way := place >= 0).any():
        levels.append(np.where(on_way, tokens[place], -1))
        place = np.where(on_way, parents[place], -1)
    return np.stack(levels, -1) if levels else np.full((1, 0), -1)
