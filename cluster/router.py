"""Which replica a new stream goes to: what a gateway knows and remembers, of which routing.py makes a choice.

Knows addresses, loads as they were last told, and what a request says of itself; knows nothing of Ray, of channels or of how replicas fare.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cactus_core.coins import Ints
from cactus_core.errors import Mismatch, Unavailable
from cloud.pages import PAGE_SIZE
from cluster.routing import Bounds, Candidate, Replica, Routes, keys_of, placed

_MOST_REMEMBERED = 1 << 14  # pages


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """What is known of a stream before a replica is chosen for it. An empty `model` is the gateway's first.

    `text` `[N]` are the prompt's tokens and all that has come of the request so far: what the replica has to read, unless it
    holds a beginning of it. They are as the edge sent them: ids that are outside of the vocabulary may be among them.
    `has_begun`: some of it was decided, so that to turn it away would lose a text.
    """

    tenant: str
    model: str
    text: Ints
    has_begun: bool = False


class Router:
    """The replicas of a gateway, and how many of its streams each has.

    A policy may rely on this of a gateway, which calls everything from its event loop and nowhere else: `choose` is followed at once,
    before anything else is awaited, by `opened` of what it returned, and that later by one `closed`, however the stream ended; both also
    for addresses that `replace` has taken away meanwhile. A stream that goes on elsewhere is chosen for again, with the text that
    it has by then, and with the addresses that failed it since it last got a decision as `excluded`. No method may block or wait.
    """

    def __init__(self, replicas: Sequence[str] = (), bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._routes = Routes((), ())
        self._num_streams: Counter[str] = Counter()
        self._num_sent: Counter[str] = Counter()  # tokens, since loads were told
        self._remembered: OrderedDict[bytes, str] = OrderedDict()  # where a page was sent last, the longest unused first
        self._num_chosen = 0
        self.replace(replicas)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every replica that new streams may go to."""
        return tuple(replica.address for replica in self._routes.replicas)

    @property
    def num_streams(self) -> int:
        """Of this gateway, open now."""
        return self._num_streams.total()

    def num_streams_to(self, address: str) -> int:
        return self._num_streams[address]

    def replace(self, replicas: Sequence[str]) -> None:
        """From now on new streams go to these, of which nothing is known. Those that are open stay where they are, while that lives."""
        self.follow(Routes((), tuple(Replica(address) for address in replicas)))

    def follow(self, routes: Routes) -> None:
        """As `replace`, with what is known of them: to be told again whenever that changes."""
        self._routes = routes
        self._num_sent.clear()

    def serving(self, model: str = "") -> list[Replica]:
        """Those of a model, of the first unless it is named. Raises `Mismatch` for a model that is not on offer."""
        models = self._routes.models
        if model and models and model not in models:
            raise Mismatch(f"this gateway serves {' and '.join(map(repr, models))}, not {model!r}; name one of them, or none")
        wanted = model or next(iter(models), "")
        return [replica for replica in self._routes.replicas if not wanted or replica.model in ("", wanted)]

    def choose(self, opening: Opening, excluded: Collection[str] = ()) -> str:
        """An address that is not `excluded`. Raises `Unavailable` where there is none, `LimitExceeded` where all are full, and `Mismatch`
        for a model that is not on offer.
        """
        left = [replica for replica in self.serving(opening.model) if replica.address not in excluded]
        keys = keys_of(opening.text, opening.tenant)  # a verifier shares pages within a tenant alone
        best = placed(
            [self._candidate(replica, keys) for replica in left], len(opening.text), has_begun=opening.has_begun, bounds=self._bounds
        )
        if not best:
            raise Unavailable("no verifier is ready behind this gateway; try again in a few seconds")
        self._num_chosen += 1
        chosen = best[self._num_chosen % len(best)]
        address = chosen.replica.address
        self._num_sent[address] += max(len(opening.text) - chosen.num_known, 0)
        self._remember(keys, address)
        return address

    def _candidate(self, replica: Replica, keys: Sequence[bytes]) -> Candidate:
        # Whoever holds a page holds those before it, and a sketch may lack those: the last that is known counts.
        num_pages = next((i for i in range(len(keys), 0, -1) if self._holds(replica, keys[i - 1])), 0)
        address = replica.address
        return Candidate(replica, num_pages * PAGE_SIZE, self._num_streams[address], self._num_sent[address])

    def _holds(self, replica: Replica, key: bytes) -> bool:
        return key in replica.load.prefixes or self._remembered.get(key) == replica.address

    def _remember(self, keys: Sequence[bytes], address: str) -> None:
        for key in keys:
            self._remembered[key] = address
            self._remembered.move_to_end(key)
        while len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    def opened(self, address: str) -> None:
        """A stream is about to be opened there."""
        self._num_streams[address] += 1

    def closed(self, address: str) -> None:
        """It is no longer there."""
        self._num_streams[address] -= 1
        if not self._num_streams[address]:
            del self._num_streams[address]
