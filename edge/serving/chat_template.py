"""Messages to a prompt, by the template that came with a tokenizer.

A template is Jinja, of the dialect that `transformers` renders: blocks trimmed, loop controls, `raise_exception`, `strftime_now`,
`tojson` that escapes nothing. It may come from anywhere, and so runs in a sandbox. Knows templates; knows nothing of tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cactus_core.errors import InvalidInput, Unsupported

PLAIN = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


class ChatTemplate:
    """`source` is the template, None where there is none; `special` are the tokens that it may name."""

    def __init__(self, source: str | None, special: Mapping[str, str]) -> None:
        """Raises `InvalidInput` for what is no template."""
        self._special = dict(special)
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        try:
            self._template = None if source is None else environment.from_string(source)
        except TemplateError as error:
            raise InvalidInput(f"the chat template cannot be read: {error}; give another with --chat-template") from None

    @classmethod
    def load(cls, folder: Path, given: str | None = None) -> ChatTemplate:
        """That of a tokenizer's folder: chat_template.jinja, or what tokenizer_config.json holds; or `given`, a file's name or "plain"."""
        config = _config(folder)
        special = {name: _content(config[name]) for name in _NAMED if config.get(name)}
        if given == "plain":
            return cls(PLAIN, special)
        file = folder / "chat_template.jinja" if given is None else Path(given)
        if file.is_file():
            return cls(file.read_text("utf8"), special)
        if given is not None:
            raise InvalidInput(f"there is no chat template {given}; name a file of Jinja, or plain")
        stored = config.get("chat_template")
        if isinstance(stored, list):  # several by name
            stored = {entry["name"]: entry["template"] for entry in stored}.get("default")
        return cls(stored, special)

    @property
    def eos_token(self) -> str | None:
        return self._special.get("eos_token")

    def render(self, messages: Sequence[Mapping[str, str]], others: Mapping[str, Any]) -> str:
        """The prompt for the assistant's next message. `others` are variables that the template may know.

        Raises `Unsupported` where there is no template, `InvalidInput` where it refuses the messages.
        """
        if self._template is None:
            raise Unsupported(
                "this model's tokenizer has no chat template: use /v1/completions, or start the server with --chat-template FILE or plain"
            )
        try:
            return self._template.render({**self._special, "tools": None, "add_generation_prompt": True, **others, "messages": messages})
        except (TemplateError, TypeError, ValueError) as error:
            raise InvalidInput(f"the chat template does not take these messages: {error}") from None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    try:
        return dict(json.loads(path.read_text("utf8")))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InvalidInput(f"{path} is not JSON; download the checkpoint again") from None


def _content(token: Any) -> str:
    """A special token stands as its text, or as a record of it."""
    return str(token["content"] if isinstance(token, dict) else token)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
