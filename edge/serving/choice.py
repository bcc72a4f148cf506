"""One choice of a response: a text as it is written, up to a stop string or its end.

Knows what was asked of a text, and how it is written; knows nothing of HTTP or of the shapes of responses.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from cactus_core.acceptance import Acceptance
from cactus_core.sampling import SamplingParams
from cactus_core.session import Finish
from edge.completer import Completer
from edge.completion import Completion, Piece, Retraction
from edge.rounds import Round
from edge.stop_strings import StopStrings
from edge.tuning.forecasting import Objective


@dataclass(frozen=True, slots=True)
class Written:
    """A token whose text begins at character `start` of the choice's."""

    piece: Piece
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.piece.text)


@dataclass(frozen=True, slots=True)
class Delta:
    """What a round brought to choice `index`: `text` that may be shown, and the tokens that are `shown` with it, whole.

    `pieces` are all that came of `round`, whether or not their text may be shown yet. The last delta says why it is.
    """

    index: int
    text: str
    shown: tuple[Written, ...]
    round: Round
    pieces: tuple[Piece, ...]
    finish: Finish | None


@dataclass(slots=True)
class Choice:
    """What was asked for, and `completion`, which grows while it `runs` (mutated). Without an `objective` the cloud decodes alone."""

    index: int
    prompt: tuple[int, ...]
    max_tokens: int
    seed: int
    sampling: SamplingParams
    acceptance: Acceptance
    objective: Objective | None
    stop: tuple[str, ...]
    stop_ids: tuple[int, ...]
    num_top: int | None
    completion: Completion = field(default_factory=lambda: Completion(""))

    async def runs(self, completer: Completer) -> AsyncGenerator[Delta, None]:
        """A delta a round. Raises what `Completer.generate` raises; a caller who closes it ends the request up to the verifier."""
        stops, held, length, num_rounds = StopStrings(self.stop), list[Written](), 0, 0
        pieces, passed = list[Piece](), ""
        generating = completer.generate(
            self.completion,
            max_tokens=self.max_tokens,
            sampling=self.sampling,
            seed=self.seed,
            acceptance=self.acceptance,
            stop_ids=self.stop_ids,
            num_top_logprobs=self.num_top or 0,
            prompt_ids=self.prompt,
        )
        async with aclosing(generating) as coming:
            async for piece in coming:
                if isinstance(piece, Retraction):  # only a draft that writes on alone takes anything back, and none does here
                    continue
                if len(self.completion.rounds) > num_rounds:
                    num_rounds += 1
                    last = self.completion.rounds[-1]
                    left = len(last.tokens)
                left -= 1
                pieces.append(piece)
                held.append(Written(piece, length))
                length += len(piece.text)
                text, is_stopped = stops.feed(piece.text)
                passed += text
                finish = Finish.STOP if is_stopped else last.finish if left == 0 else None
                if finish is not None and not is_stopped:
                    passed += stops.end()
                if left and not is_stopped:
                    continue
                # A token that a stop string begins in is shown, one that it holds whole is not.
                shown = tuple(one for one in held if one.end <= stops.num_passed or (is_stopped and one.start < stops.num_passed))
                held = held[len(shown) :]
                if finish is not None:
                    self.completion.summary.speculation = completer.explain(self.acceptance)
                yield Delta(self.index, passed, shown, last, tuple(pieces), finish)
                pieces, passed = [], ""
                if finish is not None:
                    return
