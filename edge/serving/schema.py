"""What may be asked for: OpenAI's fields, those of vLLM that are in wide use, and `speculation`, which is ours.

A field that OpenAI has and this server cannot serve is refused by name, unless its value asks for nothing; a field that nobody knows
is refused too. Of a response only what is ours needs words. The last chunk with a finish_reason, or the response, has

    metrics: {speculative_decoding: {...}}      vLLM's shape (edge/serving/report.py), of a request with one choice that drafts
    cactus: {choices: [{index, seed, acceptance: {rule, relaxation, strength, budget, label}, divergence, num_resumes, drafter_error,
                        bytes: {up, down}, plan, times: {ttft_ms, wall_ms, draft_ms, wait_ms, queue_ms, verify_ms}, ledger?}]}

`plan` is what the tuner believes and chose, `ledger` the nats of each token, where `speculation.ledger` asks for them. With
`speculation.trace` every chunk that brings tokens, one a round, has, beside its `choices`,

    cactus: {index, tokens: [{text, id, origin, logprob, divergence}],
             round: {draft_ms, wait_ms, queue_ms, verify_ms, num_drafted, length, num_accepted, at_ms}}

and the last one both. Without streaming the same records are the list `cactus.trace`.

`index` is the choice; `text` is what the token completes, empty while a character is open; `origin` is accepted, corrected, bonus
or decoded; `divergence` is in nats; times are those of `edge.rounds.Round`, in milliseconds. A chunk's tokens may be ahead of its text,
which holds back what may become a stop string.
Knows fields and their bounds; knows nothing of what is done with them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED, DEFAULT_RULE
from edge.tuning.forecasting import Objective

_MAX_CHOICES = 128
_MAX_STOPS = 16
_STRICT = ConfigDict(extra="forbid", strict=True)

Stop = Annotated[str, Field(min_length=1)]
TokenIds = list[Annotated[int, Field(ge=0)]]


class StreamOptions(BaseModel):
    model_config = _STRICT

    include_usage: bool = False
    include_obfuscation: bool = False


class Speculation(BaseModel):
    """How to speculate. `family` "none" leaves decoding to the cloud; without one a relaxation or a rule says which it is, else trees.

    `delta` stands for the relaxation "certified" and its strength; `budget` is the most nats that a choice may spend.
    """

    model_config = _STRICT

    family: Literal["coupled", "rejection", "none"] | None = None
    rule: str | None = None
    delta: float | None = Field(default=None, ge=0.0)
    relaxation: str | None = None
    strength: float | None = None
    budget: float | None = Field(default=None, ge=0.0)
    objective: Literal["latency", "cost", "energy"] = "latency"
    trace: bool = False
    ledger: bool = False

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.delta is not None and (self.relaxation, self.strength) != (None, None):
            raise ValueError("delta stands for the relaxation certified and its strength; give one or the other")
        if (self.relaxation is None) != (self.strength is None):
            raise ValueError("relaxation and strength go together")
        if self.rule is not None and self.family in {"coupled", "rejection"} and (self.rule == COUPLED) != (self.family == "coupled"):
            raise ValueError(f"the rule {self.rule} is not of the family {self.family}; give one of them")
        return self

    def acceptance(self) -> Acceptance:
        """Raises what `Acceptance` raises."""
        relaxation, strength = ("certified", self.delta) if self.delta is not None else (self.relaxation or "", self.strength or 0.0)
        needs_rows = self.family == "rejection" or relaxation or self.budget is not None
        rule = self.rule or (DEFAULT_RULE if needs_rows and self.family != "coupled" else COUPLED)
        return Acceptance(rule, relaxation, strength, float("inf") if self.budget is None else self.budget)

    @property
    def asked_objective(self) -> Objective:
        return Objective(self.objective)


class Asked(BaseModel):
    """What completions and chats have in common. `num_top` is how many rivals of each token are to be told, None for no logprobs."""

    model_config = _STRICT
    # A field of OpenAI's that is not served, and the values of it that ask for nothing.
    REFUSED: ClassVar[dict[str, tuple[Any, ...]]] = {}
    IGNORED: ClassVar[frozenset[str]] = frozenset(
        {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier", "store"}
    )

    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=-1)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    presence_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    frequency_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    repetition_penalty: float = 1.0
    logit_bias: dict[str, float] = Field(default_factory=dict)
    stop: list[Stop] = Field(default_factory=list, max_length=_MAX_STOPS)
    stop_token_ids: TokenIds = Field(default_factory=list)
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 64)
    n: int = Field(default=1, ge=1, le=_MAX_CHOICES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    speculation: Speculation = Speculation()

    @model_validator(mode="before")
    @classmethod
    def _without_what_asks_for_nothing(cls, body: Any) -> Any:
        """Null is a field's default, as at OpenAI's."""
        if not isinstance(body, dict):
            return body
        return {
            name: value
            for name, value in body.items()
            if value is not None and name not in cls.IGNORED and value not in cls.REFUSED.get(name, ())
        }

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @property
    def num_top(self) -> int | None:
        raise NotImplementedError

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionRequest(Asked):
    """POST /v1/completions. A prompt is text or token ids, and there may be several."""

    REFUSED: ClassVar[dict[str, tuple[Any, ...]]] = {"echo": (False,), "suffix": ("",), "best_of": (1,)}

    prompt: str | TokenIds | list[str] | list[TokenIds]
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @field_validator("prompt", mode="after")
    @classmethod
    def _is_some(cls, prompt: str | list[Any]) -> str | list[Any]:
        if not prompt or any(part in ("", []) for part in prompt):
            raise ValueError("a prompt is empty; give at least one token")
        return prompt

    @property
    def num_top(self) -> int | None:
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        ids = [part for part in prompt if isinstance(part, int)]
        return [ids] if ids else [part for part in prompt if not isinstance(part, int)]


class TextPart(BaseModel):
    model_config = _STRICT

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """`content` is text; its parts, where there are several, stand in lines of their own. A developer is the system under another name."""

    model_config = _STRICT

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = None

    def for_template(self) -> dict[str, str]:
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ChatRequest(Asked):
    """POST /v1/chat/completions."""

    REFUSED: ClassVar[dict[str, tuple[Any, ...]]] = {
        "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"),
        "parallel_tool_calls": (True, False), "response_format": ({"type": "text"},), "modalities": (["text"],), "audio": (),
        "prediction": (), "reasoning_effort": (), "verbosity": (), "web_search_options": (),
    }  # fmt: skip

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rivals_come_with_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs goes with logprobs: true")
        return self

    @property
    def num_top(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None
