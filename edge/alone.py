"""A text that goes on while the cloud is away: the draft's own tokens, unverified until the cloud is back.

Under shared noise the draft's token is its best guess of the target's, so that what it wrote stands as far as its guesses do. Knows a
drafter and a request; knows nothing of links, or of what is shown of the text.
"""

from __future__ import annotations

import math

import numpy as np

from cactus_core.coupled import CoupledTree
from cactus_core.session import Request
from edge.drafting.drafter import Drafter
from edge.rounds import Origin, Token

_AT_ONCE = 4  # tokens drafted between two looks at whether the link is back
_MOST = 256  # so much may be taken back at the most


class DraftAlone:
    """What was written since the link was lost; nothing of it is the target's word yet."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self.unverified: list[int] = []

    def write(self, request: Request) -> list[Token]:
        """The next few tokens after `request`'s text and what is unverified of it; none where no more may come. Blocks while it drafts."""
        text = [*request.prompt, *request.committed, *self.unverified]
        room = min(
            _AT_ONCE,
            request.max_tokens - len(request.committed) - len(self.unverified),
            self._drafter.max_positions - len(text),
            _MOST - len(self.unverified),
        )
        if room <= 0:
            return []
        tree = self._drafter.draft_tree(
            text,
            num_nodes=4 * room,
            max_depth=room,
            params=request.sampling,
            seed=request.seed,
            num_prompt=len(request.prompt),
        )
        ids = best_path(tree)
        self.unverified += ids
        return [Token(token, Origin.UNVERIFIED, math.nan, 0.0) for token in ids]

    def meets(self, token: int) -> bool:
        """The target's next token has come: whether it is the first that is unverified, which it then no longer is."""
        if self.unverified and self.unverified[0] == token:
            del self.unverified[0]
            return True
        return False


def best_path(tree: CoupledTree) -> list[int]:
    """The likeliest child of the text, its likeliest child, and so on: a tree has the best of its nodes first."""
    ids, node = [], -1
    while (children := np.flatnonzero(tree.parents == node)).size:
        node = int(children[0])
        ids.append(int(tree.tokens[node]))
    return ids
