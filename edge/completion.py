"""A text as it grows, token by token: some of it, while the cloud is away, before the target has written it.

Knows tokens, their text and what they cost; knows nothing of where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from cactus_core.acceptance import Acceptance
from cactus_core.request_log import new_request_id
from edge.rounds import Origin, Round, Token
from edge.summary import Summary
from edge.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    """A token and the text it completes, which is empty while a character is still open."""

    token: Token
    text: str


@dataclass(frozen=True, slots=True)
class Retraction:
    """The last `num_tokens` that were yielded, all of them unverified, are taken back: the target wrote another text."""

    num_tokens: int


@dataclass(slots=True)
class Completion:
    """A text as it grows, decided as `acceptance` says; complete once `Client.generate` has yielded its last piece. Gateway and verifier
    know it by `request_id` in what they log.
    """

    prompt: str
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)
    acceptance: Acceptance = field(default_factory=Acceptance)
    request_id: str = field(default_factory=new_request_id)

    def as_record(self) -> dict[str, object]:
        """For a JSON file: the text, each token with its origin and the ledger's entry, each round's sizes and times, and the sums."""
        rounds = [{k: v for k, v in asdict(done).items() if k != "tokens"} | {"num_tokens": len(done.tokens)} for done in self.rounds]
        return {
            "request": self.request_id,
            "prompt": self.prompt,
            "text": self.text,
            "acceptance": {**_finite(asdict(self.acceptance)), "label": self.acceptance.label},
            "summary": _finite(asdict(self.summary)),
            "tokens": [_finite(_without_nothing(asdict(token))) for token in self.tokens],
            "rounds": rounds,
        }


def _without_nothing(token: dict[str, object]) -> dict[str, object]:
    """A token's likeliest rivals stand in its record where they were asked for."""
    return {name: value for name, value in token.items() if name != "likeliest" or value}


def _finite(record: Mapping[str, object]) -> dict[str, object]:
    """JSON has neither infinity nor NaN: null."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()}


class Writing:
    """A completion as its tokens come, some of them before the target has written them."""

    def __init__(self, completion: Completion, tokenizer: Tokenizer) -> None:
        self._completion, self._tokenizer = completion, tokenizer
        self._text_of = tokenizer.stream()
        self._num_verified = 0

    def write(self, token: Token) -> list[Piece | Retraction]:
        """What the caller is to be told of the next token: nothing, where it was told before that it may come."""
        done = self._completion
        if token.origin is Origin.UNVERIFIED:
            return [self._add(token)]
        self._num_verified += 1
        if len(done.tokens) < self._num_verified:
            return [self._add(token)]
        if done.tokens[self._num_verified - 1].id == token.id:
            done.tokens[self._num_verified - 1] = token
            return []
        num_tokens = len(done.tokens) - self._num_verified + 1
        done.summary.num_retracted += num_tokens
        stand, done.tokens, done.text, self._text_of = done.tokens[: self._num_verified - 1], [], "", self._tokenizer.stream()
        for kept in stand:
            self._add(kept)
        return [Retraction(num_tokens), self._add(token)]

    def _add(self, token: Token) -> Piece:
        piece = Piece(token, self._text_of(token.id))
        self._completion.tokens.append(token)
        self._completion.text += piece.text
        return piece
