"""Which waiting work goes into the next step, and how much of it.

Four rules. A step reads at most a budget of tokens. Small work, a decode or a block of usual size, goes whole and first, in
an order that is fair between tenants. What is large, a prompt or a very large block, is read in parts, to its last: alone it
fills the budget; in company, also of what is only due, it may make the step longer by a set factor only, so that nobody's next
token waits behind it. Optional work, a token decoded while its edge is drafting, goes last and only as far as the step then costs
what it costs anyway: an edge's drafts bring more tokens for the same reading, so that under load they carry the work. Where
nothing else waits, it is work as any other.

Fair is what Sheng et al. 2023 ("Fairness in serving large language models", arXiv 2401.00588) call so: the tenant that was
served the least goes first, in tokens read; one that was away comes back at the level of the others, without credit.
Knows sizes and tenants; knows nothing of models, pages or texts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Generic, Protocol, TypeVar

# Largest work that is never taken apart: more than a block of 8 paths of 6, or a tree of 48 nodes, usually is.
SMALL = 64
_LEAST_PART = 4  # tokens of large work in any step, however little the company would like to wait


class Work(Protocol):
    @property
    def tenant(self) -> str: ...

    @property
    def num_unread(self) -> int:
        """Tokens that the model has still to read for it, of its text and of its drafts; at least one."""

    @property
    def is_in_parts(self) -> bool:
        """Whether an earlier step read some of it."""

    @property
    def is_optional(self) -> bool:
        """Whether it may as well wait."""


W = TypeVar("W", bound=Work)


@dataclass(frozen=True, slots=True)
class Share(Generic[W]):
    """One piece of work's part of a step: the next `num_tokens` of what it has to read."""

    work: W
    num_tokens: int


def is_large(work: Work) -> bool:
    """Whether it may be taken apart."""
    return work.num_unread > SMALL or work.is_in_parts


class Scheduler:
    """Plans steps of at most `token_budget` tokens.

    `num_free` is how many tokens cost what a step costs anyway, however little it reads. Where small work waits or is due,
    large work gets no more than makes the step `patience` times as long as the small work's alone.
    """

    def __init__(self, token_budget: int, *, num_free: float, patience: float = 1.2) -> None:
        self._token_budget = token_budget
        self._num_free = num_free
        self._patience = patience
        self._served: dict[str, float] = {}  # tokens read for each tenant, from a common level on

    def plan(self, waiting: Iterable[W], num_due: int = 0) -> list[Share[W]]:
        """Shares of the next step, which are taken as served. `waiting` is in order of arrival, and a tenant's own order stays.

        `num_due` are the tokens of the smallest work that may come at any moment; 0 when none may.
        """
        small: dict[str, deque[W]] = {}
        large: dict[str, deque[W]] = {}
        optional: dict[str, deque[W]] = {}
        for work in waiting:
            kind = large if is_large(work) else optional if work.is_optional else small
            kind.setdefault(work.tenant, deque()).append(work)
        self._level(small.keys() | large.keys() | optional.keys())
        if not small and not large:
            small, optional = optional, small
        room = self._token_budget - (min(_LEAST_PART, self._token_budget // 2) if large else 0)
        shares: list[Share[W]] = []
        num_small = 0
        for work in self._fairly(small):
            if work.num_unread > room - num_small and shares:
                break
            shares.append(self._serve(work, work.num_unread))
            num_small += work.num_unread
        room = self._token_budget - num_small
        if company := num_small or num_due:
            room = min(room, max(_LEAST_PART, int((self._patience - 1.0) * (self._num_free + company))))
        for work in self._fairly(large):
            if room <= 0:
                break
            shares.append(self._serve(work, min(work.num_unread, room)))
            room -= shares[-1].num_tokens
        num_read = sum(share.num_tokens for share in shares)
        most = min(self._num_free, self._token_budget)
        for work in self._fairly(optional):
            if num_read + work.num_unread > most:
                break
            shares.append(self._serve(work, work.num_unread))
            num_read += work.num_unread
        return shares

    def _level(self, waiting: Iterable[str]) -> None:
        """Counts from the lowest of those who wait and were here before: there the others start, and whoever comes back from
        below. Who was served more than that is remembered while away.
        """
        lowest = min((self._served[tenant] for tenant in waiting if tenant in self._served), default=0.0)
        ahead = {tenant: served - lowest for tenant, served in self._served.items() if served > lowest}
        self._served = {**dict.fromkeys(waiting, 0.0), **ahead}

    def _serve(self, work: W, num_tokens: int) -> Share[W]:
        self._served[work.tenant] += num_tokens
        return Share(work, num_tokens)

    def _fairly(self, queues: dict[str, deque[W]]) -> Iterator[W]:
        """All work of `queues` (emptied), each time the first of the tenant that was served the least until then."""
        order = [(self._served[tenant], tenant) for tenant in queues]
        heapify(order)
        while order:
            tenant = order[0][1]
            yield queues[tenant].popleft()
            if queues[tenant]:
                heapreplace(order, (self._served[tenant], tenant))
            else:
                heappop(order)
