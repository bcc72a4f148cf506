"""What a decision is made of, and what it says: drafted paths with both models' laws, and verdicts.

Knows laws on their supports; knows nothing of vocabularies, models or streams: where a round ends off the support, the
verifier, which alone holds the whole law, draws the token.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from cactus_core.coins import Bools, Floats, Ints

OFF_SUPPORT = -1


@dataclass(frozen=True, slots=True, eq=False)
class DraftedPaths:
    """B blocks padded to K paths, L tokens, N laws and S support tokens.

    `proposed` `[B, K, L]` are the drafted tokens as indices into their supports, `law_of` `[B, K, L]` says which of the block's
    laws each was drawn from; paths that share a prefix share the law after it. `draft_probs` and `target_probs` `[B, N, S]` are the laws
    they were and would have been drawn from, 0 on padding; `target_off` `[B, N]` is the target's mass off the support.
    `num_rows` and `lengths` `[B]` say what is real: the first rows and the first tokens. Both may be 0.
    """

    proposed: Ints
    law_of: Ints
    draft_probs: Floats
    target_probs: Floats
    target_off: Floats
    num_rows: Ints
    lengths: Ints

    @property
    def num_sessions(self) -> int:
        return int(self.proposed.shape[0])

    @property
    def length(self) -> int:
        """L: of the longest path."""
        return int(self.proposed.shape[2])

    @property
    def is_row(self) -> Bools:
        """`[B, K]`: which rows are real."""
        return np.asarray(np.arange(self.proposed.shape[1])[None, :] < self.num_rows[:, None])

    def of(self, sessions: Ints) -> DraftedPaths:
        """The paths of some of the sessions, in the order of `sessions`."""
        return DraftedPaths(*(getattr(self, column.name)[sessions] for column in fields(self)))

    def at(self, sessions: Ints, row: Ints, depth: Ints | int) -> tuple[Floats, Floats, Floats]:
        """The draft's and the target's law `[..., S]`, and the target's mass off the support `[...]`, at places of some sessions' rows:
        the three are broadcast together.
        """
        law = self.law_of[sessions, row, depth]
        return self.draft_probs[sessions, law], self.target_probs[sessions, law], self.target_off[sessions, law]


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """For each session `[B]`: a path, how many of its tokens stand, and the token that follows them, as an index into the
    support at that place, or `OFF_SUPPORT`: then it is to be drawn from the target's law outside that support (outside
    nothing, where the whole path stands: the bonus token).

    `divergence` `[B, L + 1]` is the ledger's part: at each place of what is emitted, KL(emitted law || target's law) in
    nats, or a bound on it where the law is a mixture; 0 from the round's end on, and at the bonus token.
    """

    row: Ints
    accepted: Ints
    final: Ints
    divergence: Floats
