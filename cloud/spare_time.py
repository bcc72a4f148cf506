"""What may be done while no step is: the noise of tokens that come next, which is a tenth of the step that reads a tree.

Where trees are waited for, the loop has time while they are drafted. Knows sessions and noise; knows nothing of turns, steps or streams.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from cactus_core.rules import COUPLED
from cloud.noise import make_ahead
from cloud.session import Session
from cloud.target import TargetModel

_POSITIONS = 8  # of each text: more than most trees bring


class SpareTime:
    """Work for moments at which nothing waits, a fifth of a millisecond at a time. Of the loop's thread alone."""

    def __init__(self, target: TargetModel) -> None:
        self._vocab_size, self._is_of_use = target.vocab_size, target.device.type == "cpu"
        self._to_make: deque[tuple[int, int]] = deque()

    @property
    def is_of_use(self) -> bool:
        return bool(self._to_make)

    def prepare_for(self, sessions: Sequence[Session]) -> None:
        """These go on from where their texts end; whatever else there was to do is no longer of use."""
        self._to_make.clear()
        if self._is_of_use:
            drawn = [session for session in sessions if _takes_all_noise(session)]
            ends = [(session.request.seed, len(session.text)) for session in drawn]
            self._to_make.extend((seed, end + ahead) for ahead in range(_POSITIONS) for seed, end in ends)

    def use(self) -> None:
        """Does a piece of it."""
        if self._to_make:
            make_ahead(*self._to_make.popleft(), self._vocab_size)


def _takes_all_noise(session: Session) -> bool:
    sampling = session.request.sampling
    return session.request.acceptance.rule == COUPLED and sampling.temperature > 0.0 and not sampling.truncates
