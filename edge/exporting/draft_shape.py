"""What an exported draft is: the names of its files, and what its ONNX file says about itself.

With it a draft is run without its config.json. Knows the names that the file's metadata uses; knows neither how the graph
is built nor how it is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cactus_core.errors import InvalidInput

MODEL, WEIGHTS = "draft.onnx", "draft.onnx.data"  # the files of an exported draft; weights apart only where they are large
TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
FORMAT = "1"  # what the inputs and outputs of the graph mean; a reader refuses any other
_FORMAT_KEY = "cactus.format"
_PREFIX = "cactus."


@dataclass(frozen=True, slots=True)
class DraftShape:
    """Keys and values of every layer are `[rows, num_kv_heads, max_positions, head_dim]` in float32."""

    vocab_size: int
    max_positions: int
    num_layers: int
    num_kv_heads: int
    head_dim: int

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1:
            raise InvalidInput(f"a draft's sizes must all be at least 1: {self}")

    def as_metadata(self) -> dict[str, str]:
        """What `from_metadata` reads."""
        return {_FORMAT_KEY: FORMAT} | {_PREFIX + key: str(value) for key, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> DraftShape:
        """Raises `InvalidInput` unless `cactus export` of this format wrote `metadata`, that of the file `path`."""
        if _FORMAT_KEY not in metadata:
            raise InvalidInput(f"{path} was not written by `cactus export`; export the draft from its checkpoint")
        if metadata[_FORMAT_KEY] != FORMAT:
            raise InvalidInput(f"{path} has format {metadata[_FORMAT_KEY]} and format {FORMAT} is read here; run `cactus export` again")
        try:
            return cls(**{field.name: int(metadata[_PREFIX + field.name]) for field in fields(cls)})
        except (KeyError, ValueError):
            raise InvalidInput(f"{path} has damaged metadata; run `cactus export` again") from None
