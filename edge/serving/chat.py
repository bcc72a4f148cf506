"""What /v1/chat/completions answers: messages.

Knows OpenAI's shape; knows nothing of templates, nor of how text is made or sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cactus_core.session import Finish
from edge.serving import logprobs
from edge.serving.choice import Choice, Delta, Written
from edge.tokenizer import Tokenizer

_ROLE = "assistant"


class ChatShape:
    """As `Shape` says."""

    prefix, whole_name, chunk_name = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def first(self, index: int) -> dict[str, Any] | None:
        """See `Shape.first`."""
        return {"index": index, "delta": {"role": _ROLE, "content": ""}, "logprobs": None, "finish_reason": None}

    def part(self, choice: Choice, delta: Delta) -> dict[str, Any]:
        """See `Shape.part`."""
        content = {"content": delta.text} if delta.text else {}
        return {"index": choice.index, "delta": content, "logprobs": self._logprobs(choice, delta.shown), "finish_reason": delta.finish}

    def whole(self, choice: Choice, text: str, shown: Sequence[Written], finish: Finish | None) -> dict[str, Any]:
        """See `Shape.whole`."""
        message = {"role": _ROLE, "content": text, "refusal": None}
        return {"index": choice.index, "message": message, "logprobs": self._logprobs(choice, shown), "finish_reason": finish}

    def _logprobs(self, choice: Choice, shown: Sequence[Written]) -> dict[str, Any] | None:
        return None if choice.num_top is None else logprobs.of_chat(shown, self._tokenizer)
