"""One direction of a link: when bytes that go in come out, and how many are on their way.

`Shaper` is what all connections share, a queue before a bandwidth; `Flow` is one connection's bytes, in order always, as
TCP has them. Knows a clock; knows nothing of sockets, and sets no timer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from cluster.link_profile import LinkProfile

_PACKET_BYTES = 1460  # what Ethernet leaves for TCP's own bytes
_PIECE_S = 1e-3  # the bandwidth's time in a piece: long data comes bit by bit, and costs a thousand wake-ups a second at most
_MAX_PIECE_BYTES = 1 << 18


class Shaper:
    """One direction with the delay, jitter and loss of `profile`, and a bandwidth of its own. `rng` draws jitter and loss.

    `clock` gives seconds. `num_bytes` is how many bytes of all flows are under way.
    """

    def __init__(self, profile: LinkProfile, bits_per_s: float, rng: np.random.Generator, clock: Callable[[], float]) -> None:
        self._clock, self._rng = clock, rng
        self._free_at = -math.inf
        self.num_bytes = 0
        self.follow(profile, bits_per_s)

    def follow(self, profile: LinkProfile, bits_per_s: float) -> None:
        """From now on as `profile` says. What is under way keeps its time."""
        self._profile, self._bits_per_s = profile, bits_per_s
        self.piece_bytes = int(min(max(bits_per_s / 8 * _PIECE_S, _PACKET_BYTES), _MAX_PIECE_BYTES))

    def empty(self) -> None:
        """Nothing waits for the bandwidth any more."""
        self._free_at = -math.inf

    def due(self, num_bytes: int) -> float:
        """When the last of `num_bytes` that go in now comes out, if nothing on its connection holds it up."""
        profile = self._profile
        self._free_at = max(self._clock(), self._free_at) + num_bytes * 8 / self._bits_per_s
        due = self._free_at + profile.one_way_s
        if profile.jitter_s:
            due += profile.jitter_s * self._rng.uniform(-1.0, 1.0)
        if profile.loss and self._rng.random() < 1.0 - (1.0 - profile.loss) ** math.ceil(num_bytes / _PACKET_BYTES):
            due += profile.retransmit_s
        return due


class Flow:
    """The bytes of one connection in one direction, on their way through `shaper`."""

    def __init__(self, shaper: Shaper) -> None:
        self._shaper = shaper
        self._pieces: deque[tuple[float, memoryview]] = deque()
        self._end_due = math.inf
        self.num_bytes = 0

    def push(self, data: bytes) -> None:
        view, size = memoryview(data), self._shaper.piece_bytes
        for start in range(0, len(data), size):
            piece = view[start : start + size]
            self._pieces.append((self._shaper.due(len(piece)), piece))
        self._add(len(data))

    def end(self) -> None:
        """No bytes follow. The other side learns of it when all of them have come, and no sooner than a byte would have."""
        self._end_due = self._shaper.due(0)

    def take(self, until: float) -> bytes:
        """What is due by `until`, and no longer under way. What is due later holds up what was sent after it."""
        taken = []
        while self._pieces and self._pieces[0][0] <= until:
            taken.append(self._pieces.popleft()[1])
        data = b"".join(taken)
        self._add(-len(data))
        return data

    def has_ended(self, until: float) -> bool:
        """Whether the end itself has come by `until`."""
        return self._end_due <= until and not self._pieces

    def drop(self) -> None:
        """What is under way is lost."""
        self._pieces.clear()
        self._add(-self.num_bytes)

    @property
    def next_due(self) -> float:
        """When there is something to take, or the end to be told; infinite while nothing is under way."""
        return self._pieces[0][0] if self._pieces else self._end_due

    def _add(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes
        self._shaper.num_bytes += num_bytes
