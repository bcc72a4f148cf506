"""Where requests are served from: so many places, each with a drafter of its own.

Knows drafters and completers, and how many requests there are; knows nothing of what they ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from edge.completer import Completer, Drafting
from edge.drafting.drafter import Drafter
from edge.link import Endpoint
from edge.serving.errors import busy
from edge.tokenizer import Tokenizer
from edge.tracing import Tracing
from edge.tuning.forecasting import Objective


class Seat:
    """One drafter's place; of each objective a completer, since what a tuner learns it learns for that."""

    def __init__(self, endpoint: Endpoint, tokenizer: Tokenizer, drafter: Drafter | None, tracing: Tracing) -> None:
        self._endpoint, self._tokenizer, self._drafter, self._tracing = endpoint, tokenizer, drafter, tracing
        self._completers: dict[Objective | None, Completer] = {}

    def completer(self, objective: Objective | None) -> Completer:
        """None: one that leaves all to the cloud."""
        if objective not in self._completers:
            drafting = Drafting() if objective is None else Drafting(objective=objective)
            drafter = None if objective is None else self._drafter
            self._completers[objective] = Completer(self._endpoint, self._tokenizer, drafter, drafting, self._tracing)
        return self._completers[objective]


class Seats:
    """As many requests are admitted as there are `drafters`; their choices take turns in the seats."""

    def __init__(self, endpoint: Endpoint, tokenizer: Tokenizer, drafters: Sequence[Drafter | None], tracing: Tracing) -> None:
        self.num = len(drafters)
        self.num_requests = 0
        self.stopping = asyncio.Event()  # once it is set, what is under way ends with an error
        self._free: asyncio.LifoQueue[Seat] = asyncio.LifoQueue()  # the seat whose caches and tuner are freshest comes first
        for drafter in drafters:
            self._free.put_nowait(Seat(endpoint, tokenizer, drafter, tracing))

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """For as long as a request is served. Raises `ApiError` 429 when there are as many as there are seats."""
        if self.num_requests >= self.num:
            raise busy(self.num)
        self.num_requests += 1
        try:
            yield
        finally:
            self.num_requests -= 1

    @asynccontextmanager
    async def seat(self) -> AsyncIterator[Seat]:
        """The next that is free."""
        seat = await self._free.get()
        try:
            yield seat
        finally:
            self._free.put_nowait(seat)
