"""Who is in, and whether another may come.

Knows names, quotas and a clock; knows nothing of calls or frames.
"""

from __future__ import annotations

import time
from collections import Counter

from cactus_core.errors import CactusError
from cluster.access.admission import Admission
from cluster.access.quotas import Quota, Use
from cluster.access.tenants import Tenant

_MANY = 4096  # callers that are remembered before those who left no trace are forgotten


class Door:
    """The use of every caller, and of the gateway as a whole. `num_refused` counts refusals by the name of their status."""

    def __init__(self, admission: Admission) -> None:
        self.num_refused: Counter[str] = Counter()
        self._uses: dict[str, Use] = {}
        self._next_tidying = _MANY
        self.admission = admission
        self._all = Use("the gateway", _whole(admission), time.monotonic())

    @property
    def num_streams(self) -> int:
        return self._all.num_streams

    def adjust(self, admission: Admission) -> None:
        if admission != self.admission:
            self.admission = admission
            self._all.adjust(_whole(admission), time.monotonic())

    def enter(self, tenant: Tenant) -> Use:
        """Lets a stream in, which `leave` is to be called for. Raises `LimitExceeded`: of the caller first, so that one who floods takes
        nothing from the others.
        """
        now = time.monotonic()
        use = self._use(tenant, now)
        try:
            use.check_open(now)
            self._all.check_open(now)
        except CactusError as error:
            self.num_refused[error.code] += 1
            raise
        use.opened(now)
        self._all.opened(now)
        return use

    def leave(self, use: Use) -> None:
        use.closed()
        self._all.closed()

    def ask(self, tenant: Tenant) -> None:
        """Lets a call through that holds nothing. Raises `LimitExceeded`."""
        now = time.monotonic()
        self._use(tenant, now).asked(now)

    def _use(self, tenant: Tenant, now: float) -> Use:
        use = self._uses.get(tenant.name)
        if use is None:
            if len(self._uses) >= self._next_tidying:
                self._uses = {name: each for name, each in self._uses.items() if not each.is_idle(now)}
                self._next_tidying = max(_MANY, 2 * len(self._uses))
            use = self._uses[tenant.name] = Use(tenant.name, tenant.quota, now)
        use.adjust(tenant.quota, now)
        return use


def _whole(admission: Admission) -> Quota:
    return Quota(num_streams=admission.num_streams, opens_per_s=admission.opens_per_s, opens_burst=admission.opens_burst)
