"""What tells two tokenizers apart: both sides must give every id the same text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def fingerprint(vocabulary: Mapping[str, int]) -> str:
    """Of a tokenizer's vocabulary, token to id: 16 hex digits. A model's padding of its vocabulary does not enter."""
    digest = hashlib.sha256()
    for token, token_id in sorted(vocabulary.items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{token_id}\x00{token}\x01".encode("utf8", "surrogatepass"))
    return digest.hexdigest()[:16]
