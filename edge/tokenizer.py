"""Text to token ids and back, and what tells this tokenizer from another."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
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

    def encode(self, text: str, *, adds_special: bool = True) -> tuple[int, ...]:
        """`adds_special`: with what the tokenizer puts around a text; a chat template has put it there already."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=adds_special).ids)

    def stream(self) -> Callable[[int], str]:
        """A function from each next id to the text it completes, empty while a character is still open."""
        stream = DecodeStream(skip_special_tokens=True)
        return lambda token: stream.step(self._tokenizer, token) or ""

    def id_of(self, token: str) -> int | None:
        return self._tokenizer.token_to_id(token)

    def text_of(self, token: int) -> str:
        """The token by itself, special or not; a part of a character shows as U+FFFD."""
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def bytes_of(self, token: int) -> bytes:
        """What the token is in UTF-8, which need not be whole characters; of an id outside the vocabulary nothing."""
        name = self._tokenizer.id_to_token(token)
        if name is None:
            return b""
        if token not in self._added and self._is_byte_level and all(char in _BYTE_OF for char in name):
            return bytes(_BYTE_OF[char] for char in name)
        if len(name) == len("<0x00>") and name.startswith("<0x") and name.endswith(">"):  # a byte that SentencePiece has no word for
            return bytes([int(name[3:5], 16)])
        return self.text_of(token).encode()

    @cached_property
    def _added(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_added_tokens_decoder())

    @cached_property
    def _is_byte_level(self) -> bool:
        decoder = json.loads(self._tokenizer.to_str())["decoder"] or {}
        return "ByteLevel" in {decoder.get("type"), *(part["type"] for part in decoder.get("decoders", ()))}


def _byte_of() -> dict[str, int]:
    """The characters by which byte-level vocabularies name bytes: printable ones themselves, the others from U+0100 on in their order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_of()
