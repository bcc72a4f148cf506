"""Where a text is to be read: what its beginning saves at a replica, against what it would wait for there.

Pure: facts in, a choice out. Knows loads, keys of pages and counts; knows nothing of Ray, of channels or of how facts come.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cactus_core.coins import Ints
from cactus_core.errors import InvalidInput, LimitExceeded
from cloud.pages import PAGE_SIZE
from cloud.prefixes import page_key, scope_key

_KEY_BYTES = 8  # of a page's: enough for a guess, and a sketch stays small
_MOST_PAGES = 256  # of a text are looked at: four thousand tokens tell texts apart
_GRAIN_S = 0.005  # replicas that differ by less are equals


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica says of itself. `prefixes` are short keys of pages that it has read, those that were used last.

    `queue_s` is how long work waits there before a step takes it up, `occupancy` the share of its memory that sessions hold, 0..1,
    `token_s` what it takes to read one more token of a prompt.
    """

    queue_s: float = 0.0
    occupancy: float = 0.0
    num_sessions: int = 0
    token_s: float = 0.0
    prefixes: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        if not (0.0 <= self.queue_s < math.inf and 0.0 <= self.token_s < math.inf and 0.0 <= self.occupancy <= 1.0):
            raise InvalidInput(f"no load: {self.queue_s} s of queue, {self.token_s} s a token, occupancy {self.occupancy}")


@dataclass(frozen=True, slots=True)
class Replica:
    """One that takes new texts, at `address`. An empty `model` is not known."""

    address: str
    model: str = ""
    load: Load = Load()


@dataclass(frozen=True, slots=True)
class Routes:
    """What a gateway is told: the models on offer, the first of which whoever names none gets, and who serves them now."""

    models: tuple[str, ...]
    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica, as it looks to one text: it holds its first `num_known` tokens.

    `num_streams` are this gateway's there, and `num_sent` the tokens that it has sent there to be read since the load was told.
    """

    replica: Replica
    num_known: int = 0
    num_streams: int = 0
    num_sent: int = 0

    def cost_s(self, num_tokens: int) -> float:
        """When a text of `num_tokens` would have been read there."""
        load = self.replica.load
        return load.queue_s + (self.num_sent + max(num_tokens - self.num_known, 0)) * load.token_s


@dataclass(frozen=True, slots=True)
class Bounds:
    """A replica beyond one of them is hot: it gets no new text while there is a cooler one, and when all are, nobody does."""

    queue_s: float = 2.0
    occupancy: float = 0.95

    def is_hot(self, load: Load) -> bool:
        return load.queue_s > self.queue_s or load.occupancy > self.occupancy


def placed(candidates: Sequence[Candidate], num_tokens: int, *, has_begun: bool, bounds: Bounds) -> list[Candidate]:
    """The best places for a text of `num_tokens`, equals among themselves; of no candidates, none.

    A text that has begun goes where its keys and values are, and is never turned away. Raises `LimitExceeded` where all are hot.
    """
    if not candidates:
        return []
    if has_begun:
        most = max(each.num_known for each in candidates)
        left = [each for each in candidates if each.num_known == most]
    else:
        left = [each for each in candidates if not bounds.is_hot(each.replica.load)]
        if not left:
            raise LimitExceeded("every verifier behind this gateway is full; try again in a few seconds, or add replicas")
    least_s = min(each.cost_s(num_tokens) for each in left)
    near = [each for each in left if each.cost_s(num_tokens) <= least_s + _GRAIN_S]
    fewest = min(each.num_streams for each in near)
    return [each for each in near if each.num_streams == fewest]


def short(key: bytes) -> bytes:
    """What stands for a page's key in a sketch."""
    return key[:_KEY_BYTES]


def keys_of(text: Ints, scope: str) -> tuple[bytes, ...]:
    """The short keys of the whole pages that a text of `scope` begins with. Its last token is always read."""
    return tuple(_keys(text, scope))


def _keys(text: Ints, scope: str) -> Iterator[bytes]:
    key = scope_key(scope)
    for start in range(0, min(len(text) - PAGE_SIZE, _MOST_PAGES * PAGE_SIZE), PAGE_SIZE):
        key = page_key(key, text[start : start + PAGE_SIZE].tolist())
        yield short(key)
