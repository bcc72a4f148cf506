"""Log-probabilities in the two shapes of OpenAI's API.

They are of the law that was sampled from, which temperature and truncation have shaped. Knows tokens and shapes; knows nothing of requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edge.serving.choice import Written
from edge.tokenizer import Tokenizer

_LEAST = -9999.0  # JSON has no infinity: vLLM's number for a token that could not be drawn


def of_completion(shown: Sequence[Written], num_top: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """Columns; `text_offset` counts characters of the choice's own text."""
    tokens = [one.piece.token for one in shown]
    tops = [{_name(rival, tokenizer): _finite(logprob) for rival, logprob in token.likeliest} for token in tokens]
    return {
        "tokens": [_name(token.id, tokenizer) for token in tokens],
        "token_logprobs": [_finite(token.logprob) for token in tokens],
        "top_logprobs": tops if num_top else None,
        "text_offset": [one.start for one in shown],
    }


def of_chat(shown: Sequence[Written], tokenizer: Tokenizer) -> dict[str, Any]:
    """A record a token, with its bytes: characters may be open at its borders."""
    content = []
    for one in shown:
        token = one.piece.token
        tops = [_entry(rival, logprob, tokenizer) for rival, logprob in token.likeliest]
        content.append(_entry(token.id, token.logprob, tokenizer) | {"top_logprobs": tops})
    return {"content": content, "refusal": None}


def _entry(token: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    return {"token": tokenizer.text_of(token), "logprob": _finite(logprob), "bytes": list(tokenizer.bytes_of(token))}


def _name(token: int, tokenizer: Tokenizer) -> str:
    """The token's text; one that is no whole characters goes by its bytes, so that names stay apart."""
    raw = tokenizer.bytes_of(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST) if not math.isnan(logprob) else _LEAST
