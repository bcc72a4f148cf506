"""A drafter that runs an exported model in ONNX Runtime.

Knows laws, coins and rows of a model; knows nothing of the graph, nor of who verifies.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime as ort

from cactus_core.block import Block, empty_block
from cactus_core.coins import Ints
from cactus_core.coupled import CoupledTree, empty_tree
from cactus_core.errors import InvalidInput, Unavailable
from cactus_core.lattice import MAX_BITS, LatticeLaws
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams
from edge.drafting.block_drawing import draw_block
from edge.drafting.checked_text import checked_text
from edge.drafting.draft_laws import likeliest, on_lattice
from edge.drafting.known_noise import KnownNoise
from edge.drafting.ngram_counts import NgramCounts
from edge.drafting.onnx_rows import OnnxRows
from edge.drafting.tree_growing import Asked, TreeSearch
from edge.exporting.draft_folder import draft_folder
from edge.exporting.draft_shape import MODEL, DraftShape

# Several paths live from the tail of a law: at temperature 1 the demo pair gains 0.5 tokens a round from 64 to 1024 tokens of
# support, for 5 times the bytes. Sharp laws use far fewer, whatever the bound.
DEFAULT_SUPPORT = 1024
_ERRORS_ONLY = 3
_RUNS = 15  # of which the time is remembered


class OnnxDrafter:
    """Drafts with a model of `cactus export`, as `Drafter` and `ThinksAhead` say. Needs no closing.

    A block costs the tokens of `text` that the last blocks did not reach, then one batched step a depth; a tree, what of both was not
    run for the last tree, or ahead of it. At temperature 0 a tree's ranks also count what followed the same tokens in the text before, as
    it was when a node was run.

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
        self._rows = OnnxRows(session, shape)
        self._noise = KnownNoise(0, shape.vocab_size)
        self._counts = NgramCounts()
        self._run_s: deque[float] = deque(maxlen=_RUNS)
        self._search: TreeSearch | None = None  # none while it is used: an interruption leaves less known, never something false

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

    def twin(self) -> OnnxDrafter:
        """Another drafter with a cache of its own over the same weights, for another caller at the same time."""
        return OnnxDrafter(self._session, self._shape, support_size=self._support_size, bits=self._bits)

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
        self._search = None  # what the rows hold is another text's from here on
        root = self._rows.catch_up(committed, num_rows)
        penalties = Penalties(params, committed, num_prompt)

        def laws_after(paths: Ints, leaders: Ints) -> LatticeLaws:
            depth = paths.shape[1]
            logits = root if depth == 0 else self._rows.step(paths[:, -1], base + depth - 1)
            shaped = penalties.after(paths[leaders]).edited(logits[leaders]) if params.edits_logits else logits[leaders]
            return on_lattice(*likeliest(shaped, params, self._support_size), self._bits)

        block = draw_block(base, num_rows=num_rows, length=length, seed=seed, laws_after=laws_after)
        self._rows.hold(block.tokens[:, :-1])
        return block

    def draft_tree(
        self,
        text: Sequence[int] | Ints,
        *,
        num_nodes: int,
        max_depth: int,
        params: SamplingParams,
        seed: int,
        num_prompt: int = 0,
        s_per_token: float = math.inf,
    ) -> CoupledTree:
        """See `Drafter.draft_tree`."""
        committed = self._checked(text, num_nodes, max_depth)
        if num_nodes == 0 or max_depth == 0:
            return empty_tree(len(committed))
        asked = Asked(params, seed, num_prompt)
        self._counts.read(committed)
        search, self._search = self._search, None
        if search is None or search.asked != asked or search.width < num_nodes or not search.goes_on_to(committed):
            if self._noise.seed != seed:
                self._noise = KnownNoise(seed, self.vocab_size)
            search = TreeSearch(self._rows, committed, asked, self._noise, self._counts, self._run_s, num_nodes)
        tree = search.tree(num_nodes, max_depth, s_per_token)
        self._search = search
        return tree

    def think_ahead(self, num_nodes: int, should_stop: Callable[[], bool]) -> None:
        """See `ThinksAhead.think_ahead`."""
        search, self._search = self._search, None
        if search is not None:
            search.think_ahead(num_nodes, should_stop)
            self._search = search

    def _checked(self, text: Sequence[int] | Ints, width: int, depth: int) -> Ints:
        return checked_text(text, width, depth, vocab_size=self.vocab_size, max_positions=self.max_positions)
