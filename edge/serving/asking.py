"""From a request to the choices that are to be written for it.

Knows the fields of requests, tokenizer and template; knows nothing of how a choice is written or answered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from cactus_core.errors import CactusError
from cactus_core.sampling import SamplingParams
from cactus_core.session import Request, Served
from edge.serving.chat_template import ChatTemplate
from edge.serving.choice import Choice
from edge.serving.errors import ApiError, too_long
from edge.serving.schema import Asked, ChatRequest, CompletionRequest
from edge.tokenizer import Tokenizer

_COMPLETION_TOKENS = 16  # OpenAI's default, of completions alone
_MAX_CHOICES = 128  # of all prompts together
_SEEDS = 1 << 64

T = TypeVar("T")


def of_completion(asked: CompletionRequest, tokenizer: Tokenizer, served: Served) -> list[Choice]:
    """Raises `ApiError`."""
    prompts = [tokenizer.encode(prompt) if isinstance(prompt, str) else tuple(prompt) for prompt in asked.prompts]
    return _choices(asked, prompts, asked.max_tokens or _COMPLETION_TOKENS, (), tokenizer, served, "prompt")


def of_chat(asked: ChatRequest, template: ChatTemplate, tokenizer: Tokenizer, served: Served) -> list[Choice]:
    """A text goes on for as long as there is room, unless the request says how long. Raises `ApiError`."""
    try:
        text = template.render([message.for_template() for message in asked.messages], asked.chat_template_kwargs)
    except CactusError as error:
        raise ApiError.of(error, "messages") from None
    prompt = tokenizer.encode(text, adds_special=False)
    max_tokens = asked.max_completion_tokens or asked.max_tokens or max(served.max_positions - len(prompt), 1)
    # A turn may end with another token than a text does.
    end = None if template.eos_token is None else tokenizer.id_of(template.eos_token)
    return _choices(asked, [prompt], max_tokens, () if end is None else (end,), tokenizer, served, "messages")


def _choices(
    asked: Asked, prompts: list[tuple[int, ...]], max_tokens: int, ends: tuple[int, ...], tokenizer: Tokenizer, served: Served, where: str
) -> list[Choice]:
    if len(prompts) * asked.n > _MAX_CHOICES:
        raise ApiError(f"{len(prompts)} prompts with n = {asked.n} are more than {_MAX_CHOICES} choices; ask for fewer", param="n")
    for prompt in prompts:
        if len(prompt) + max_tokens > served.max_positions:
            raise too_long(len(prompt), max_tokens, served.max_positions, where)
    speculation = asked.speculation
    acceptance = _checked(speculation.acceptance, "speculation")
    drafts = speculation.family != "none"
    first = Choice(
        index=0,
        prompt=prompts[0],
        max_tokens=max_tokens,
        seed=secrets.randbits(63) if asked.seed is None else asked.seed % _SEEDS,
        sampling=_checked(lambda: _sampling(asked), None),
        acceptance=acceptance,
        objective=speculation.asked_objective if drafts else None,
        stop=tuple(asked.stop),
        stop_ids=tuple(dict.fromkeys((*asked.stop_token_ids, *ends))),
        num_top=asked.num_top,
    )
    choices = [
        replace(first, index=index, prompt=prompt, seed=(first.seed + index) % _SEEDS, completion=type(first.completion)(""))
        for index, prompt in enumerate(prompt for prompt in prompts for _ in range(asked.n))
    ]
    for choice in choices:
        _checked(lambda choice=choice: _request(choice, tokenizer).check_vocabulary(served.vocab_size), None)  # type: ignore[misc]
    return choices


def _request(choice: Choice, tokenizer: Tokenizer) -> Request:
    """As the client will make it: what is wrong with it is said before anything is under way."""
    return Request(
        prompt=choice.prompt,
        max_tokens=choice.max_tokens,
        seed=choice.seed,
        fingerprint=tokenizer.fingerprint,
        sampling=choice.sampling,
        acceptance=choice.acceptance,
        stop_ids=choice.stop_ids,
        num_top_logprobs=choice.num_top or 0,
    )


def _sampling(asked: Asked) -> SamplingParams:
    try:
        bias = tuple((int(token), value) for token, value in asked.logit_bias.items())
    except ValueError:
        raise ApiError("logit_bias maps token ids to numbers; a key is no number", param="logit_bias") from None
    return SamplingParams(
        asked.temperature,
        max(asked.top_k, 0),  # -1 is off too, as in vLLM
        asked.top_p,
        asked.min_p,
        asked.presence_penalty,
        asked.frequency_penalty,
        asked.repetition_penalty,
        bias,
    )


def _checked(make: Callable[[], T], param: str | None) -> T:
    try:
        return make()
    except CactusError as error:
        # Most of ours begin with the field that they are about.
        named = next((_FIELDS[word] for word in str(error).split()[:2] if word in _FIELDS), None)
        raise ApiError.of(error, param or named) from None


_FIELDS = {name: name for name in (*CompletionRequest.model_fields, *ChatRequest.model_fields)} | {"stop_ids": "stop_token_ids"}
