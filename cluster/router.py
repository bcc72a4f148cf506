"""Which replica a new stream goes to. For now: that with the fewest open streams, in turn among equals.

Knows addresses and what a request says of itself; knows nothing of Ray, of channels or of how replicas fare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cactus_core.coins import Ints
from cactus_core.errors import Unavailable


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """What is known of a stream before a replica is chosen for it. An empty `model` is any.

    `text` `[N]` are the prompt's tokens and all that has come of the request so far: what the replica has to read, unless it
    holds a beginning of it. They are as the edge sent them: ids that are outside of the vocabulary may be among them.
    """

    tenant: str
    model: str
    text: Ints


class Router:
    """The replicas of a gateway, and how many of its streams each has.

    A policy may rely on this of a gateway, which calls everything from its event loop and nowhere else: `choose` is followed at once,
    before anything else is awaited, by `opened` of what it returned, and that later by one `closed`, however the stream ended; both also
    for addresses that `replace` has taken away meanwhile. A stream that goes on elsewhere is chosen for again, with the text that
    it has by then, and with the addresses that failed it since it last got a decision as `excluded`. No method may block or wait.
    """

    def __init__(self, replicas: Sequence[str] = ()) -> None:
        self._addresses = tuple(replicas)
        self._num_streams: Counter[str] = Counter()
        self._num_chosen = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every replica that new streams may go to."""
        return self._addresses

    def replace(self, replicas: Sequence[str]) -> None:
        """From now on new streams go to these. Those that are open stay where they are for as long as that lives."""
        self._addresses = tuple(replicas)

    def choose(self, opening: Opening, excluded: Collection[str] = ()) -> str:
        """An address that is not `excluded`. Raises `Unavailable` where there is none."""
        left = [address for address in self._addresses if address not in excluded]
        if not left:
            raise Unavailable("no verifier is ready behind this gateway; try again in a few seconds")
        fewest = min(self._num_streams[address] for address in left)
        equals = [address for address in left if self._num_streams[address] == fewest]
        self._num_chosen += 1
        return equals[self._num_chosen % len(equals)]

    def opened(self, address: str) -> None:
        """A stream is about to be opened there."""
        self._num_streams[address] += 1

    def closed(self, address: str) -> None:
        """It is no longer there."""
        self._num_streams[address] -= 1
        if not self._num_streams[address]:
            del self._num_streams[address]
