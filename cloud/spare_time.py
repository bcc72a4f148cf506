"""What may be done while no step is: the noise of tokens that come next, which is a tenth of the step that reads a tree.

Where trees are waited for, the loop has time while they are drafted. Knows sessions and noise; knows nothing of turns, steps or streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cactus_core.rules import COUPLED
from cloud.noise import LARGEST_AHEAD, make_ahead
from cloud.session import Session
from cloud.target import TargetModel

_POSITIONS = 8  # of each text: more than most trees bring


class SpareTime:
    """Work for moments at which nothing waits, a fifth of a millisecond at a time. Of the loop's thread alone."""

    def __init__(self, target: TargetModel) -> None:
        self._vocab_size = target.vocab_size
        self._makes_noise = target.device.type == "cpu" and target.vocab_size <= LARGEST_AHEAD
        self._pieces: Iterator[None] | None = None

    @property
    def is_of_use(self) -> bool:
        return self._pieces is not None

    def prepare_for(self, sessions: Sequence[Session]) -> None:
        """These go on from where their texts end; whatever else there was to do is no longer of use."""
        self._pieces = self._noise_of(sessions) if self._makes_noise else None

    def use(self) -> None:
        """Does a piece of it."""
        if self._pieces is not None:
            try:
                next(self._pieces)
            except StopIteration:
                self._pieces = None

    def _noise_of(self, sessions: Sequence[Session]) -> Iterator[None]:
        """Makes a row each time. Of all texts what comes next, before what comes later of any."""
        ends = [(session.request.seed, len(session.text)) for session in sessions if _takes_all_noise(session)]
        for ahead in range(_POSITIONS):
            for seed, end in ends:
                make_ahead(seed, end + ahead, self._vocab_size)
                yield


def _takes_all_noise(session: Session) -> bool:
    sampling = session.request.sampling
    return session.request.acceptance.rule == COUPLED and sampling.temperature > 0.0 and not sampling.truncates
