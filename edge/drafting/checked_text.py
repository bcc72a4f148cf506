"""What every drafter refuses before it looks at a text.

Knows ids and sizes; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cactus_core.coins import Ints
from cactus_core.errors import InvalidInput, LimitExceeded


def checked_text(text: Sequence[int] | Ints, width: int, depth: int, *, vocab_size: int, max_positions: int) -> Ints:
    """A copy of `text`, to be followed by `width` rows or nodes that are `depth` tokens deep. Raises as `Drafter` says."""
    committed = np.array(text, dtype=np.int64)
    if committed.ndim != 1 or len(committed) == 0:
        raise InvalidInput("a text needs at least one token to draft from; begin it with the tokenizer's first token")
    if committed.min() < 0 or committed.max() >= vocab_size:
        raise InvalidInput(f"a token id is outside the draft's vocabulary of {vocab_size}; use the tokenizer beside the draft")
    if width < 0 or depth < 0:
        raise InvalidInput(f"a draft cannot have {width} rows or nodes, {depth} tokens deep")
    if len(committed) + depth > max_positions:
        raise LimitExceeded(
            f"{len(committed)} tokens and {depth} drafted ones exceed the draft's {max_positions} positions; "
            "draft fewer, or export it with a larger max_positions"
        )
    return committed
