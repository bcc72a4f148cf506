"""A drafter that runs an exported model in ONNX Runtime.

Knows the graph's inputs and outputs, and rows of keys and values; knows nothing of how the graph was built, nor of who
verifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from cactus_core.block import Block, empty_block
from cactus_core.coins import Ints, SeededCoins, Site
from cactus_core.errors import InvalidInput, LimitExceeded, Unavailable
from cactus_core.lattice import MAX_BITS, LatticeLaws, quantise
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams, probabilities
from edge.draft_folder import draft_folder
from edge.draft_shape import MODEL, DraftShape
from edge.kv_rows import KvRows

Logits = NDArray[np.float32]

# A prompt goes through the model in chunks: beyond this, activations grow and speed does not.
_CHUNK = 256
# Several paths live from the tail of a law: at temperature 1 the demo pair gains 0.5 tokens a round from 64 to 1024 tokens of
# support, for 5 times the bytes. Sharp laws use far fewer, whatever the bound.
DEFAULT_SUPPORT = 1024
_ERRORS_ONLY = 3


class OnnxDrafter:
    """Drafts with a model of `cactus export`, as `Drafter` says. Needs no closing.

    A call costs the tokens of `text` that the last blocks did not reach, then one batched step a depth.

    How exact "the same" is: laws come from float32 logits, and the keys and values under them may have been computed
    one position at a time or many at once, with sums taken in another order. The same sequence of calls gives the same
    blocks bit for bit, and so does one call made twice in a row. After another history the logits differ by rounding,
    about 1e-6 of their size, and with them, rarely, a count of a law by one, and then perhaps a token. Nothing rests
    on more than that: a block carries the very laws that its tokens were drawn from.
    """

    def __init__(self, session: ort.InferenceSession, shape: DraftShape, *, support_size: int, bits: int) -> None:
        """Takes the session over. Laws have at most `support_size` tokens, in counts of 2**-`bits`."""
        if support_size < 1 or not 0 < bits <= MAX_BITS:
            raise InvalidInput(f"support_size must be 1 or more and bits between 1 and {MAX_BITS}, not {support_size} and {bits}")
        self._session, self._shape, self._support_size, self._bits = session, shape, support_size, bits
        self._rows = KvRows(shape)
        self._views: dict[tuple[int, int], _View] = {}
        # The last text and what followed it: kept because running its last token again, alone, would round otherwise.
        self._root: tuple[Ints, Logits] = np.zeros(0, dtype=np.int64), np.zeros((1, shape.vocab_size), dtype=np.float32)

    @property
    def support_size(self) -> int:
        return min(self._support_size, self._shape.vocab_size)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        support_size: int = DEFAULT_SUPPORT,
        bits: int = 14,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        num_threads: int = 1,
    ) -> OnnxDrafter:
        """The drafter of `source`: a folder with draft.onnx, a checkpoint's folder or a hub name (see `draft_folder`).

        `providers` are ONNX Runtime's, by name and in order of preference; attention is float32 and falls to the CPU in
        most of them. Raises `InvalidInput`, `Unsupported` or `Unavailable` where `source` or a provider cannot be had.
        """
        available = ort.get_available_providers()
        if missing := set(providers) - set(available):
            raise Unavailable(f"this ONNX Runtime has no {', '.join(sorted(missing))}; choose among {', '.join(available)}")
        path = draft_folder(source) / MODEL
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
        options.log_severity_level = _ERRORS_ONLY
        try:
            session = ort.InferenceSession(path, options, providers=list(providers))
        except Exception as error:  # noqa: BLE001  # ONNX Runtime's exceptions have no common type of their own
            reason = str(error).split("\n")[0]
            raise InvalidInput(f"{path} is not a model that ONNX Runtime can run ({reason}); run `cactus export` again") from None
        shape = DraftShape.from_metadata(session.get_modelmeta().custom_metadata_map, path)
        return cls(session, shape, support_size=support_size, bits=bits)

    @property
    def vocab_size(self) -> int:
        """See `Drafter.vocab_size`."""
        return self._shape.vocab_size

    @property
    def max_positions(self) -> int:
        """See `Drafter.max_positions`."""
        return self._shape.max_positions

    def draft(
        self, text: Sequence[int] | Ints, *, num_rows: int, length: int, params: SamplingParams, seed: int, num_prompt: int = 0
    ) -> Block:
        """See `Drafter.draft`."""
        committed = self._checked(text, num_rows, length)
        base = len(committed)
        if num_rows == 0 or length == 0:
            return empty_block(base)
        if params.temperature == 0.0:
            num_rows = 1
        if num_rows > self._rows.num_rows:
            self._views.clear()
            self._rows.grow(num_rows)
        logits = self._catch_up(committed, num_rows)
        self._rows.forget(slice(num_rows), base)
        penalties = Penalties(params, committed, num_prompt)
        coins = SeededCoins(seeds=[seed] * num_rows, bases=[base] * num_rows, rows=np.arange(num_rows))
        tokens, law_of = np.empty((2, num_rows, length), dtype=np.int64)
        laws: list[LatticeLaws] = []
        num_laws = 0
        agree = np.ones((num_rows, num_rows), dtype=np.bool_)  # whether two rows are the same so far
        for depth in range(length):
            if depth > 0:
                logits = self._step(tokens[:, depth - 1], base + depth - 1)
                agree &= tokens[:, depth - 1, None] == tokens[None, :, depth - 1]
            first = agree.argmax(-1)  # of the rows that agree, the first one's law holds for all
            leaders, law = np.unique(first, return_inverse=True)
            shaped = penalties.after(tokens[leaders, :depth]).edited(logits[leaders]) if params.edits_logits else logits[leaders]
            laws.append(_laws(shaped, params, self._support_size, self._bits))
            drawn = coins.draw(laws[-1].counts[law].astype(np.float64), Site.DRAFT, depth)
            tokens[:, depth] = laws[-1].ids[law, drawn]
            law_of[:, depth] = num_laws + law
            num_laws += len(laws[-1].ids)
        self._rows.hold(slice(num_rows), base, tokens[:, :-1])
        return Block(base, tokens, law_of, _joined(laws))

    def _checked(self, text: Sequence[int] | Ints, num_rows: int, length: int) -> Ints:
        committed = np.array(text, dtype=np.int64)  # a copy: it is remembered
        if committed.ndim != 1 or len(committed) == 0:
            raise InvalidInput("a text needs at least one token to draft from; begin it with the tokenizer's first token")
        if committed.min() < 0 or committed.max() >= self.vocab_size:
            raise InvalidInput(f"a token id is outside the draft's vocabulary of {self.vocab_size}; use the tokenizer beside the draft")
        if num_rows < 0 or length < 0:
            raise InvalidInput(f"a block cannot have {num_rows} rows of {length} tokens")
        if len(committed) + length > self.max_positions:
            raise LimitExceeded(
                f"{len(committed)} tokens and {length} drafted ones exceed the draft's {self.max_positions} positions; "
                "draft fewer, or export it with a larger max_positions"
            )
        return committed

    def _catch_up(self, text: Ints, num_rows: int) -> Logits:
        """Rows 0..num_rows hold `text`; returns the logits `[1, V]` that follow it."""
        shared = self._rows.num_shared(text)
        best = int(shared.argmax())
        start = int(shared[best])
        if start < len(text) or not np.array_equal(text, self._root[0]):
            start = min(start, len(text) - 1)  # at the least the last token runs again, for its logits
            self._rows.forget(best, start)
            view = self._view(best, 1)
            logits = self._root[1]
            for chunk in np.split(text[start:], range(_CHUNK, len(text) - start, _CHUNK)):
                logits = view.run(self._session, chunk[None, :], start)
                self._rows.hold(best, start, chunk)
                start += len(chunk)
            self._root = text, logits.copy()
        self._rows.copy(best, num_rows, int(shared[:num_rows].min()), len(text))
        return self._root[1]

    def _step(self, tokens: Ints, position: int) -> Logits:
        """The logits `[K, V]` that follow `tokens` `[K]` at `position` of each row; overwritten by the next step."""
        return self._view(0, len(tokens)).run(self._session, tokens[:, None], position)

    def _view(self, start: int, num_rows: int) -> _View:
        if (start, num_rows) not in self._views:
            self._views[start, num_rows] = _View.bind(self._session, self._shape, self._rows.buffer[:, start : start + num_rows])
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

    def run(self, session: ort.InferenceSession, ids: Ints, start: int) -> Logits:
        """Appends `ids` `[B, S]` from position `start` on; S > 1 only where B = 1.

        Returns the logits `[B, V]` after the last of them, in this view's own array: the next run overwrites it.
        """
        num_new = ids.shape[1]
        self.last_position[:] = start + num_new - 1
        self.num_positions[()] = start + num_new
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


def _laws(logits: NDArray[np.floating], params: SamplingParams, support_size: int, bits: int) -> LatticeLaws:
    """The lattice laws of `logits` `[N, V]`."""
    size = min(support_size, logits.shape[-1])
    if params.temperature > 0.0 and params.top_p < 1.0:
        # A nucleus is measured against the mass of the whole vocabulary.
        return quantise(probabilities(logits, params), size, bits)
    # Otherwise the likeliest tokens' law needs no others. Choosing them first is several times as fast: no softmax over
    # V, and partitioning is slow where most entries are equal, as they are after greedy or top-k.
    kept = np.sort(np.argpartition(logits, -size, axis=-1)[:, -size:], axis=-1)
    laws = quantise(probabilities(np.take_along_axis(logits, kept, -1), params), size, bits)
    ids = np.where(laws.counts > 0, np.take_along_axis(kept, laws.ids, -1), 0)
    return LatticeLaws(ids, laws.counts, bits)


def _joined(laws: list[LatticeLaws]) -> LatticeLaws:
    """All laws in one, as wide as the widest."""
    num_laws, width = sum(len(law.ids) for law in laws), max(law.ids.shape[1] for law in laws)
    ids, counts = np.zeros((2, num_laws, width), dtype=np.int64)
    start = 0
    for law in laws:
        place = np.s_[start : start + len(law.ids), : law.ids.shape[1]]
        ids[place], counts[place] = law.ids, law.counts
        start += len(law.ids)
    return LatticeLaws(ids, counts, laws[0].bits)
