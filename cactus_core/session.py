"""What the two sides of a request tell each other, as values: checked when made, free of the wire's encoding."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from cactus_core.acceptance import Acceptance
from cactus_core.coupled import CoupledTree
from cactus_core.errors import InvalidInput
from cactus_core.sampling import SamplingParams

PROTOCOL = 2
_MAX_TOP_LOGPROBS = 20
_MAX_STOP_IDS = 64
# The likeliest tokens at one place, the likeliest first, each with its natural log-probability.
Likeliest = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one frame may hold; whatever exceeds them is refused before it costs model time.

    `max_law_tokens` bounds the supports of a block's laws together: unpacking and deciding take time in proportion.
    """

    max_rows: int = 16
    max_length: int = 32
    max_support: int = 1024
    max_law_tokens: int = 1 << 17
    max_frame_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Served:
    """What an endpoint serves. `max_positions` is the longest text, prompt included. `rules` maps names to labels, `relaxations`
    names to what their strength is.
    """

    model: str
    fingerprint: str
    vocab_size: int
    max_positions: int
    limits: Limits
    rules: dict[str, str]
    relaxations: dict[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """A text to be completed.

    `prompt` are token ids, at least one. `seed` is any 64-bit number. `model` and `fingerprint` say what the edge expects at the
    other end; an empty `model` takes what is served. With `decode_alone` the cloud decodes without waiting for drafts; under the rule
    `coupled` drafts that come all the same are used. `stop_ids` are tokens that end the text, beside the model's own;
    `num_top_logprobs` asks for that many of the likeliest tokens at each place. `committed` are tokens that came of it already,
    before a stream was cut: they count towards `max_tokens`, and the text goes on after them.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    seed: int
    fingerprint: str
    model: str = ""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    acceptance: Acceptance = field(default_factory=Acceptance)
    decode_alone: bool = False
    stop_ids: tuple[int, ...] = ()
    num_top_logprobs: int = 0
    committed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InvalidInput("the prompt is empty; give at least one token")
        if self.max_tokens < 1:
            raise InvalidInput(f"max_tokens must be at least 1, not {self.max_tokens}")
        if len(self.committed) >= self.max_tokens:
            raise InvalidInput(f"{len(self.committed)} tokens of at most {self.max_tokens} came already; there is nothing to go on with")
        if not 0 <= self.seed < 1 << 64:
            raise InvalidInput(f"the seed must be between 0 and 2^64 - 1, not {self.seed}")
        if len(self.stop_ids) > _MAX_STOP_IDS or min(self.stop_ids, default=0) < 0:
            raise InvalidInput(f"stop_ids takes at most {_MAX_STOP_IDS} token ids, not {self.stop_ids[: _MAX_STOP_IDS + 1]}")
        if not 0 <= self.num_top_logprobs <= _MAX_TOP_LOGPROBS:
            raise InvalidInput(f"num_top_logprobs must be between 0 and {_MAX_TOP_LOGPROBS}, not {self.num_top_logprobs}")
        if self.acceptance.relaxation == "top_k" and self.sampling.truncates:
            raise InvalidInput(
                "relaxation top_k lets the k likeliest drafts stand, and a truncated law may have fewer tokens; "
                "take a temperature above 0 without top_k, top_p and min_p, or another relaxation"
            )

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises `InvalidInput` where a token is named that a vocabulary of `vocab_size` has not."""
        biased = [token for token, _ in self.sampling.logit_bias]
        named = ("the prompt", self.prompt), ("committed", self.committed), ("stop_ids", self.stop_ids), ("logit_bias", biased)
        for where, ids in named:
            outside = [token for token in ids if not 0 <= token < vocab_size]
            if outside:
                raise InvalidInput(f"{where} names token {outside[0]}, but the vocabulary has {vocab_size}")


@dataclass(frozen=True, slots=True, eq=False)
class Hint:
    """A coupled tree, the `round`-th of its request, and how long the cloud is then to wait for the next.

    Whenever the text's end is not drafted, the cloud waits up to `wait_s` since its last decision for a tree that starts there, and then
    decodes a token by itself. 0 is to decode on at once, infinity to wait for each tree.
    """

    round: int
    tree: CoupledTree
    wait_s: float = math.inf

    def __post_init__(self) -> None:
        if not self.wait_s >= 0.0:
            raise InvalidInput(f"wait_s must be 0 seconds or more, not {self.wait_s}")


class Finish(StrEnum):
    STOP = "stop"  # an end-of-text token, or one of the request's stop ids
    LENGTH = "length"  # max_tokens


@dataclass(frozen=True, slots=True)
class Decision:
    """What stands of drafts: the first `num_accepted` tokens of path `row` of the block of `round`, or those that `accepted` spells
    out where a coupled tree was walked; then `final`, the corrected or bonus token.

    Of trees `round` is the newest that had come, since any of them may have been the one. `final` is None where the text ended inside
    the drafts. Of each emitted token in order: `logprobs`, the natural logarithm of its probability under the target's law as the request
    samples it, and `divergence`, the ledger's entry, in nats. `top_logprobs` are, where they were asked for, the likeliest tokens in
    the place of each, with their log-probabilities: no more than can be drawn. `queue_s` and `verify_s` are the time the drafts waited
    and the time their step took, `hint_age_s` the time since the tree of `round` had come: what a round trip did not take. Raises
    `InvalidInput` where that does not hold together.
    """

    round: int
    base: int
    row: int
    num_accepted: int
    final: int | None
    logprobs: tuple[float, ...]
    divergence: tuple[float, ...]
    finish: Finish | None
    queue_s: float
    verify_s: float
    top_logprobs: tuple[Likeliest, ...] = ()
    accepted: tuple[int, ...] = ()
    hint_age_s: float = 0.0

    def __post_init__(self) -> None:
        if len(self.accepted) not in {0, self.num_accepted}:
            raise InvalidInput(f"a decision on {self.num_accepted} drafted tokens spells out {len(self.accepted)}")
        if not len(self.logprobs) == len(self.divergence) == self.num_emitted:
            raise InvalidInput(f"a decision on {self.num_emitted} tokens has {len(self.logprobs)} logprobs, {len(self.divergence)} entries")
        if len(self.top_logprobs) not in {0, self.num_emitted}:
            raise InvalidInput(f"a decision on {self.num_emitted} tokens has the likeliest in {len(self.top_logprobs)} places")
        if not all(nats >= 0.0 for nats in self.divergence):
            raise InvalidInput(f"a ledger's entries must be 0 nats or more, not {min(self.divergence)}")

    @property
    def num_emitted(self) -> int:
        return self.num_accepted + (self.final is not None)
