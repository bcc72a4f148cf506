"""What /v1/completions answers: text.

Knows OpenAI's shape; knows nothing of how text is made or sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cactus_core.session import Finish
from edge.serving import logprobs
from edge.serving.choice import Choice, Delta, Written
from edge.tokenizer import Tokenizer


class CompletionShape:
    """As `Shape` says."""

    prefix, whole_name, chunk_name = "cmpl", "text_completion", "text_completion"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def first(self, index: int) -> dict[str, Any] | None:
        """See `Shape.first`."""
        return None

    def part(self, choice: Choice, delta: Delta) -> dict[str, Any]:
        """See `Shape.part`."""
        return self.whole(choice, delta.text, delta.shown, delta.finish)

    def whole(self, choice: Choice, text: str, shown: Sequence[Written], finish: Finish | None) -> dict[str, Any]:
        """See `Shape.whole`."""
        columns = None if choice.num_top is None else logprobs.of_completion(shown, choice.num_top, self._tokenizer)
        return {"index": choice.index, "text": text, "logprobs": columns, "finish_reason": finish}
