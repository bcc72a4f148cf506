"""The target's laws as requests sample them, on the target's device: the batched twin of cactus_core/sampling.py.

A law is a row of logits x, a temperature T, an edge and a scale: token i has the probability exp((x_i - max x) / T) · scale
where the edge keeps it. So a law costs a softmax over its row that is forgotten at once, and a few numbers: nothing as wide as
the vocabulary is kept beside the logits, or leaves the device.
Knows logits and sampling parameters; knows nothing of sessions, drafts or coins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cactus_core.coins import Bools, Floats, Ints
from cactus_core.penalties import Edits
from cactus_core.sampling import SamplingParams
from cloud.edges import Cuts, Edges, edges_of
from cloud.edited_logits import EditedLogits
from cloud.noise import gumbel, host_gumbel, whole_gumbel
from cloud.transfer import sent

# Numbers in a temporary: few enough for a processor's cache, many enough to keep a GPU busy.
_CHUNK, _CHUNK_ON_GPU = 1 << 17, 1 << 25
_NOISE = 8  # how many numbers of a temporary one of noise costs: it is float64, and made of several int64
_HAS_KERNELS = find_spec("triton") is not None
# Weights are summed by so many tokens, so that a draw looks at V / 256 sums and at 256 tokens.
_BLOCK = 256


class TargetLaws:
    """M laws, of `logits` `[M, V]` as `params` shape them: one for each row, or one for `num_rows` `[B]` rows after each other.

    `edits`, pairs of a first row, ascending, and what is done to the rows from there on, come before all else. The laws are
    those of `cactus_core.sampling.probabilities` up to float32. `logits` are read as long as the laws are, and never written.

    `rows` `[n]` that are asked about may be arrays or tensors, in any order, as may token ids. Results are on the logits'
    device. Raises `ValueError` unless every row has parameters.
    """

    def __init__(
        self, logits: Tensor, params: Sequence[SamplingParams], num_rows: Ints | None = None, edits: Sequence[tuple[int, Edits]] = ()
    ) -> None:
        of = np.repeat(np.arange(len(params)), 1 if num_rows is None else num_rows)
        if len(of) != len(logits):
            raise ValueError(f"{len(logits)} rows of logits need as many sampling parameters, not {len(of)}")
        self._logits, self.device, self.vocab_size = EditedLogits(logits, edits), logits.device, logits.shape[1]
        self._ids = torch.arange(self.vocab_size, device=self.device)
        self._is_greedy = np.array([p.temperature == 0.0 for p in params], dtype=np.bool_)[of]
        self._is_cut = np.array([p.truncates for p in params], dtype=np.bool_)[of] & ~self._is_greedy
        self._is_whole = ~(self._is_greedy | self._is_cut)
        temperatures = np.array([p.temperature or 1.0 for p in params], dtype=np.float32)
        self._is_tempered = bool((temperatures != 1.0).any())
        self._temperature = self.on(temperatures[of])[:, None]
        self._highest = torch.empty_like(self._temperature)
        self._edges = Edges.below_all(len(of), self.vocab_size, self.device)
        self._scale = torch.empty((len(of), 1), dtype=torch.float64, device=self.device)
        if logits.is_cuda and _HAS_KERNELS and not self._logits.is_edited:
            from cloud.law_kernels import measured

            self._highest, self._scale = measured(logits, self._temperature)
        else:
            for rows in self._chunks(self._is_whole):
                self._measure(rows, None)
        cuts = Cuts.asked_by(params, self.vocab_size)
        for rows in self._chunks(self._is_cut):
            self._measure(rows, cuts.of(of[rows]))
        for rows in self._chunks(self._is_greedy):
            self._point(rows)

    def _measure(self, rows: Ints, cuts: Cuts | None) -> None:
        """All that is kept of laws, greedy ones aside."""
        x, on = self._logits.rows(rows), self._span(rows)
        self._highest[on] = x.amax(-1, keepdim=True)
        weights = self._softmax(x, on)
        scale = weights.amax(-1, keepdim=True).double()  # the likeliest token's probability is exp(0) · scale
        if cuts is not None:
            edges = edges_of(x, self._highest[on], scale, self._temperature[on], cuts)
            self._edges = self._edges.put(on, edges)
            scale /= weights.mul_(edges.kept(x, self._ids)).sum(-1, keepdim=True)
        self._scale[on] = scale

    def _point(self, rows: Ints) -> None:
        """As `_measure`, of greedy laws: they keep their first maximum alone."""
        on = self._span(rows)
        value, token = self._logits.rows(rows).max(-1, keepdim=True)
        self._highest[on], self._scale[on] = value, 1.0
        self._edges = self._edges.put(on, Edges(value, token, splits=True))

    def at(self, rows: Ints | Tensor, ids: Ints | Tensor) -> Tensor:
        """The probabilities `[n, S]`, float64, of the tokens `ids` `[n, S]`."""
        rows, ids = self.on(rows), self.on(ids)
        x = self._logits.at(rows, ids)
        probs = self._scaled(x, rows).exp_().double().mul_(self._scale[rows])
        return probs if self._is_whole.all() else probs.mul_(self._edges.of(rows).kept(x, ids))

    def draw(self, rows: Ints | Tensor, at: Floats | Tensor) -> Tensor:
        """Tokens `[n]`: of each law the first whose running sum, by id, exceeds `at` `[n]`, in [0, 1). Never one of probability 0."""
        return self.draw_outside(rows, np.empty((len(rows), 0), dtype=np.int64), at)

    def draw_outside(self, rows: Ints | Tensor, supports: Ints | Tensor, at: Floats | Tensor) -> Tensor:
        """As `draw`, from the laws without the tokens `supports` `[n, S]`, in which V stands for no token.

        From the whole law where nothing is outside: rounding alone can have said so.
        """
        rows, supports, at = self._host(rows), self.on(supports), self.on(at)
        tokens = self._first_maxima(rows)  # on a support or off it
        is_drawn = torch.ones(len(rows), dtype=torch.bool, device=self.device)
        for part in self._chunks(~self._is_greedy[rows]):
            on, law = self._span(part), self._span(rows[part])
            x = self._logits.rows(rows[part])
            weights = self._softmax(x, law)
            if self._is_cut[rows[part]].any():
                weights *= self._edges.of(law).kept(x, self._ids)
            weights = F.pad(weights, (0, _BLOCK - self.vocab_size % _BLOCK)).scatter_(1, supports[on], 0.0)
            tokens[on], is_drawn[on] = _first_above(weights.view(len(part), -1, _BLOCK), at[on, None])
        return tokens if not supports.shape[1] or is_drawn.all() else torch.where(is_drawn, tokens, self.draw(rows, at))

    def own_tokens(self, rows: Ints | Tensor, seeds: ArrayLike, positions: Ints | Tensor) -> Tensor:
        """argmax(log q + G) `[n]`, as `cactus_core.coupled.own_tokens`, G the noise of 64-bit `seeds` `[n]` at `positions` `[n]`.

        Noise is what costs time, and is made only for tokens that may be drawn: a law that is cut takes far less than a whole one.
        """
        rows, positions, seeds = self._host(rows), self._host(positions), np.asarray(seeds, dtype=np.uint64)
        is_whole = self._is_whole[rows]
        if is_whole.all():
            return self._own_of_whole(rows, seeds, positions)
        tokens = self._first_maxima(rows)
        tokens[self.on(np.flatnonzero(is_whole))] = self._own_of_whole(rows[is_whole], seeds[is_whole], positions[is_whole])
        for part in self._chunks(self._is_cut[rows], _NOISE):
            tokens[self.on(part)] = self._own_of_cut(rows[part], seeds[part], positions[part])
        return tokens

    def _own_of_whole(self, rows: Ints, seeds: NDArray[np.uint64], positions: Ints) -> Tensor:
        """As `own_tokens`, of laws with nothing cut."""
        return (self._own_on_host if self.device.type == "cpu" else self._own_on_device)(rows, seeds, positions)

    def _own_on_device(self, rows: Ints, seeds: NDArray[np.uint64], positions: Ints) -> Tensor:
        seeds_on, positions_on = self.on(seeds.view(np.int64)), self.on(positions)
        tokens = torch.empty(len(rows), dtype=torch.int64, device=self.device)
        for part in self._chunks(np.ones(len(rows), dtype=np.bool_), _NOISE):
            on = self._span(part)
            noise = whole_gumbel(seeds_on[on], positions_on[on], self.vocab_size)
            tokens[on] = noise.add_(self._scaled(self._logits.rows(rows[part]).double(), self.on(rows[part]))).argmax(-1)
        return tokens

    def _own_on_host(self, rows: Ints, seeds: NDArray[np.uint64], positions: Ints) -> Tensor:
        """A row at a time, in the cache: between two depths of a walk torch's operations take longer to be called than to be done."""
        own, scaled = np.empty(len(rows), dtype=np.int64), np.empty(self.vocab_size)
        if not len(rows):
            return torch.from_numpy(own)
        x, highest, temperature = self._logits.rows(rows).numpy(), self._highest.numpy()[rows, 0], self._temperature.numpy()[rows, 0]
        for place, (seed, position) in enumerate(zip(seeds.tolist(), positions.tolist(), strict=True)):
            noise = host_gumbel(seed, position, self.vocab_size)
            np.subtract(x[place], highest[place], out=scaled, dtype=np.float64)
            scaled /= temperature[place]
            noise += scaled
            own[place] = noise.argmax()
        return torch.from_numpy(own)

    def _own_of_cut(self, rows: Ints, seeds: NDArray[np.uint64], positions: Ints) -> Tensor:
        """As `own_tokens`, of laws that keep few tokens."""
        seeds_on, positions_on, on = self.on(seeds.view(np.int64)), self.on(positions), self.on(rows)
        x = self._logits.rows(rows)
        row, token = self._edges.of(on).kept(x, self._ids).nonzero(as_tuple=True)
        noise = torch.full(x.shape, -torch.inf, dtype=torch.float64, device=self.device)
        noise[row, token] = gumbel(seeds_on[row], positions_on[row], token)
        return noise.add_(self._scaled(x.double(), on)).argmax(-1)

    def top(self, rows: Ints | Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Of each law the `count` likeliest tokens (or all there are) `[n, count]`, the likeliest first, and their natural
        log-probabilities, -inf for tokens that are never drawn.
        """
        rows = self._host(rows)
        ids = torch.empty((len(rows), min(count, self.vocab_size)), dtype=torch.int64, device=self.device)
        for part in self._chunks(np.ones(len(rows), dtype=np.bool_)):
            x = self._logits.rows(rows[part])
            if not self._is_whole[rows[part]].all():
                x = x.masked_fill(~self._edges.of(self.on(rows[part])).kept(x, self._ids), -torch.inf)
            ids[self.on(part)] = x.topk(ids.shape[1], -1).indices
        return ids, self.at(rows, ids).log_()

    def _first_maxima(self, rows: Ints) -> Tensor:
        """`[n]`: the tokens of greedy rows; of the others nothing."""
        if self._is_greedy[rows].any():
            return self._edges.last[self.on(rows), 0]
        return torch.empty(len(rows), dtype=torch.int64, device=self.device)

    def _softmax(self, x: Tensor, rows: Tensor | slice) -> Tensor:
        """`[n, V]` float32, of the logits `x` `[n, V]` of `rows`: their laws with nothing cut."""
        return torch.softmax(self._scaled(x, rows) if self._is_tempered else x, -1)

    def _scaled(self, x: Tensor, rows: Tensor | slice) -> Tensor:
        """Logits `x` `[n, S]` less their law's highest, over its temperature. In this order a temperature near 0 can only underflow."""
        scaled = x - self._highest[rows]
        return scaled.div_(self._temperature[rows]) if self._is_tempered else scaled

    def _chunks(self, is_asked: Bools, width: int = 1) -> Iterator[Ints]:
        """The places that are asked for, a few at a time: `width` temporaries of theirs fill a chunk."""
        places = np.flatnonzero(is_asked)
        size = _CHUNK if self.device.type == "cpu" else _CHUNK_ON_GPU
        step = max(1, size // (self.vocab_size * width))
        for start in range(0, len(places), step):
            yield places[start : start + step]

    def on(self, values: NDArray[Any] | Tensor) -> Tensor:
        """On the logits' device."""
        return values.to(self.device) if isinstance(values, Tensor) else sent(values, self.device)

    def _span(self, rows: Ints) -> slice | Tensor:
        """As an index: a slice, which costs nothing, wherever `rows` are neighbours."""
        first = int(rows[0])
        neighbours = slice(first, first + len(rows))
        return neighbours if len(rows) == 1 or (np.diff(rows) == 1).all() else self.on(rows)

    @staticmethod
    def _host(rows: Ints | Tensor) -> Ints:
        return rows.cpu().numpy() if isinstance(rows, Tensor) else rows


def _first_above(weights: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """The first place `[n]` in `weights` `[n, blocks, _BLOCK]` whose running sum exceeds `at` `[n, 1]` times the total, by way of
    the blocks' sums; and whether there is any weight `[n]`.
    """
    sums = weights.sum(-1).double()
    total = sums.sum(-1, keepdim=True)
    block, rest = _first_running(sums, at * total)
    place, _ = _first_running(weights.take_along_dim(block[..., None], 1)[:, 0].double(), rest)
    return (block * _BLOCK + place)[:, 0], (total > 0.0)[:, 0]


def _first_running(weights: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """The first place `[n, 1]` whose running sum of `weights` `[n, k]`, float64, exceeds `at` `[n, 1]`, and what of `at` is left there.

    Never a place of weight 0, though `at` be rounded up to the sum of all: then it is the last of some weight.
    """
    running = weights.cumsum(-1)
    place = (running <= at.clamp(min=0.0)).sum(-1, keepdim=True)
    last = (torch.arange(weights.shape[1], device=weights.device) * (weights > 0.0)).amax(-1, keepdim=True)
    place = torch.minimum(place, last)
    return place, at - (running - weights).gather(-1, place)
