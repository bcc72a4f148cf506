"""Text to token ids and back, and what tells this tokenizer from another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer
from tokenizers.decoders import DecodeStream

from cactus_core.errors import InvalidInput
from cactus_core.fingerprint import fingerprint


class Tokenizer:
    """The `tokenizer.json` of a checkpoint or of an exported draft."""

    def __init__(self, tokenizer: _Tokenizer) -> None:
        self._tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self.fingerprint = fingerprint(vocabulary)
        self.vocab_size = 1 + max(vocabulary.values(), default=-1)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Raises `InvalidInput` where the folder has no `tokenizer.json`, or one that cannot be read."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise InvalidInput(
                f"{folder} has no tokenizer.json; name a folder that `cactus export` made, or a checkpoint with a fast tokenizer"
            )
        try:
            return cls(_Tokenizer.from_file(str(path)))
        except Exception as error:  # noqa: BLE001  # the library raises bare Exception
            raise InvalidInput(f"{path} is not a tokenizer: {error}; export the draft again") from None

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text).ids)

    def stream(self) -> Callable[[int], str]:
        """A function from each next id to the text it completes, empty while a character is still open."""
        stream = DecodeStream(skip_special_tokens=True)
        return lambda token: stream.step(self._tokenizer, token) or ""
