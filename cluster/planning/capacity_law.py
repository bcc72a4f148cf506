"""How many more clients a verifier carries when they draft for themselves: 1 + gamma·t_d/t_v (arXiv 2606.25091), simulated.

A verifier that drafts gamma tokens at t_d each before it verifies them in t_v is held for gamma·t_d + t_v a round; one whose clients draft
is held for t_v. Knows two times and a queue; knows nothing of profiles, links or trees.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy

from cactus_core.errors import InvalidInput

_NUM_ROUNDS = 400


@dataclass(frozen=True, slots=True)
class CapacityLaw:
    """Rounds of `gamma` drafted tokens, `draft_s` each; `verify_s` to verify them."""

    gamma: int
    draft_s: float
    verify_s: float

    def __post_init__(self) -> None:
        if self.gamma < 1 or not self.draft_s >= 0.0 or not self.verify_s > 0.0:
            raise InvalidInput(f"the law takes 1 drafted token and more, and times above 0, not {self}")

    @property
    def formula(self) -> float:
        return 1.0 + self.gamma * self.draft_s / self.verify_s

    def simulated(self, num_clients: int) -> float:
        """Rounds a second with drafts from the clients, over those with drafts from the verifier, of equally many clients: the formula
        once they keep it busy either way, and less before.
        """
        apart, together = (self._rounds_per_s(num_clients, at_the_verifier=flag) for flag in (False, True))
        return apart / together

    def _rounds_per_s(self, num_clients: int, *, at_the_verifier: bool) -> float:
        env, num_done = simpy.Environment(), 0
        verifier = simpy.Resource(env)
        drafting = self.gamma * self.draft_s

        def client() -> Generator[simpy.Event, Any, None]:
            nonlocal num_done
            while True:
                if not at_the_verifier:
                    yield env.timeout(drafting)
                with verifier.request() as turn:
                    yield turn
                    yield env.timeout(self.verify_s + (drafting if at_the_verifier else 0.0))
                num_done += 1

        for _ in range(num_clients):
            env.process(client())
        env.run(until=drafting)  # the first drafts
        seconds, num_done = _NUM_ROUNDS * (self.verify_s + drafting), 0
        env.run(until=drafting + seconds)
        return num_done / seconds
