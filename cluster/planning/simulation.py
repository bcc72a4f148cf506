"""A discrete-event simulation of clients that draft for one verifier: minutes of a deployment in a moment.

The protocol is the coupled family's (edge/hinting.py, cloud/hints.py, cloud/scheduler.py): the newest tree counts, as far as the text since
went along it; told to wait, the cloud holds a text until its tree comes; otherwise it decodes on in the gaps, and does that for edges that
draft only as far as a step then costs what it costs anyway. Everything that waits goes into the next step. Left out: prompts, the ends
of texts, memory, several tenants.
How far trees come true is replayed along texts that were measured, where there are any: hard text is hard for every tree.
Knows profiles and virtual time; knows nothing of models, threads or real clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import simpy

from cluster.link_profile import LinkProfile
from cluster.planning.configuration import Setting, Way
from cluster.planning.outcome import Outcome
from cluster.shaper import Shaper

_WARM_UP = 0.2  # of the time, not counted: trees are on their way, and queues fill

_Process = Generator[simpy.Event, Any, None]


def simulated(setting: Setting, way: Way, num_clients: int, *, seconds: float = 20.0, seed: int = 0) -> Outcome:
    """Runs equal clients for so many virtual seconds, of which a fifth warms up. The same arguments give the same outcome."""
    env = simpy.Environment()
    verifier = _Verifier(env, setting)
    rngs = np.random.default_rng(seed).spawn(num_clients)
    clients = [_Client(env, setting, way, verifier, rng) for rng in rngs]
    env.run(until=_WARM_UP * seconds)
    verifier.forget()
    for client in clients:
        client.forget()
    env.run(until=seconds)
    return _outcome(setting, way, verifier, clients, (1.0 - _WARM_UP) * seconds)


@dataclass(frozen=True, slots=True)
class _Tree:
    """Drafted where the text was `base` tokens long; the next `reach` tokens are in it, one below the other."""

    base: int
    num_nodes: int
    reach: int

    def num_left(self, length: int) -> int:
        """How many nodes follow a text of `length` tokens: a tree's are shared out evenly among its depths."""
        passed = length - self.base
        return self.num_nodes - passed * self.num_nodes // (self.reach + 1) if passed <= self.reach else 0


_NOTHING = _Tree(-1, 0, -1)


class _Lane:
    """One direction of a client's link: what goes in comes out in its order."""

    def __init__(self, env: simpy.Environment, profile: LinkProfile, bits_per_s: float, rng: np.random.Generator) -> None:
        self._env, self._shaper = env, Shaper(profile, bits_per_s, rng, lambda: float(env.now))
        self._last_due = 0.0
        self.num_bytes = 0

    def send(self, num_bytes: int, then: Callable[[], None]) -> None:
        """`then` is called when all of it has come."""
        self._last_due = max(self._last_due, self._shaper.due(num_bytes))
        self.num_bytes += num_bytes
        self._env.process(self._later(then))

    def _later(self, then: Callable[[], None]) -> _Process:
        yield self._env.timeout(self._last_due - self._env.now)
        then()


class _Client:
    """A text, its edge, and what the cloud knows of both."""

    def __init__(self, env: simpy.Environment, setting: Setting, way: Way, verifier: _Verifier, rng: np.random.Generator) -> None:
        self._env, self._setting, self._way, self._verifier, self._rng = env, setting, way, verifier, rng
        link = setting.link
        self.up, self._down = (_Lane(env, link, bits, rng) for bits in (link.up_bits_per_s, link.down_bits_per_s))
        self._reach: list[int] = []  # of a tree, by where it starts
        self._num_bytes = round(setting.acceptance.frame_bytes + setting.acceptance.node_bytes * way.num_nodes)
        # What the cloud knows.
        self.length, self._tree, self._is_waited_for = 0, _NOTHING, False
        self.ready_since = 0.0
        # What the edge knows.
        self._seen, self._told = 0, 0.0
        self._news = env.event()
        self.forget()
        verifier.welcome(self)
        if way.num_nodes:
            env.process(self._drafting())

    def forget(self) -> None:
        self.per_token_s: list[float] = []
        self.num_tokens = self.num_decisions = 0
        self.draft_s = 0.0
        self.up.num_bytes = 0

    @property
    def num_nodes(self) -> int:
        """Of the newest tree, what follows the text."""
        return self._tree.num_left(self.length)

    @property
    def is_in_gap(self) -> bool:
        """Nobody drafted what comes next."""
        return not self.num_nodes and self._tree.base != self.length

    @property
    def is_due(self) -> bool:
        return not (self._is_waited_for and self.is_in_gap)

    @property
    def is_optional(self) -> bool:
        return self.is_in_gap and self._tree.base >= 0

    def begin(self) -> int:
        """A step reads what there is now, whatever comes meanwhile; returns what it will bring."""
        return 1 + (max(self._tree.reach - (self.length - self._tree.base), 0) if self.num_nodes else 0)

    def go_on(self, num_tokens: int) -> None:
        """The text is so many tokens longer, of which the edge is told."""
        self.length += num_tokens
        self.ready_since = self._env.now
        length = self.length
        self._down.send(round(self._setting.acceptance.decision_bytes), lambda: self._decided(length, num_tokens))

    def _decided(self, length: int, num_tokens: int) -> None:
        self.per_token_s += [(self._env.now - self._told) / num_tokens] * num_tokens
        self.num_tokens += num_tokens
        self.num_decisions += 1
        self._seen, self._told = length, self._env.now
        news, self._news = self._news, self._env.event()
        news.succeed()

    def _drafting(self) -> _Process:
        waits = self._way.mode == "wait"
        tree = _NOTHING
        while True:
            if tree.base == self._seen:
                yield self._news
                continue
            before, tree = tree, self._grown(self._seen)
            took = self._draft_time_s(tree.num_nodes, before.num_left(tree.base))
            yield self._env.timeout(took)
            self.draft_s += took
            if waits or tree.num_left(self._seen):
                self.up.send(self._num_bytes, partial(self._hear, tree, waits=waits))

    def _draft_time_s(self, num_nodes: int, num_known: int) -> float:
        """Of a tree of which so many nodes are the last one's, which need not be run again."""
        device = self._setting.device
        mean_s = device.drafting.at(num_nodes) * max(num_nodes - num_known, 1) / num_nodes
        if not device.draft_spread:
            return mean_s
        shape = device.draft_spread**-2
        return float(self._rng.gamma(shape, mean_s / shape))

    def _grown(self, base: int) -> _Tree:
        while len(self._reach) <= base:
            self._reach += self._setting.acceptance.reaches(self._way.num_nodes, self._rng).tolist()
        return _Tree(base, self._way.num_nodes, self._reach[base])

    def _hear(self, tree: _Tree, *, waits: bool) -> None:
        self._tree, self._is_waited_for = tree, waits
        self.ready_since = self._env.now
        self._verifier.wake()


class _Verifier:
    """Steps over whatever is due."""

    def __init__(self, env: simpy.Environment, setting: Setting) -> None:
        self._env, self._profile = env, setting.verifier
        self._num_free = setting.verifier.num_free_tokens
        self._clients: list[_Client] = []
        self._woken = env.event()
        self.forget()
        env.process(self._stepping())

    def welcome(self, client: _Client) -> None:
        self._clients.append(client)
        self.wake()

    def wake(self) -> None:
        if not self._woken.triggered:
            self._woken.succeed()

    def forget(self) -> None:
        self.busy_s, self.num_tokens = 0.0, 0

    def _stepping(self) -> _Process:
        while True:
            due = [client for client in self._clients if client.is_due]
            if not due:
                self._woken = self._env.event()
                yield self._woken
                continue
            chosen, num_read = self._chosen(due)
            took = self._profile.step_s(num_read, len(chosen))
            brought = [client.begin() for client in chosen]
            yield self._env.timeout(took)
            self.busy_s += took
            self.num_tokens += sum(brought)
            for client, num_tokens in zip(chosen, brought, strict=True):
                client.go_on(num_tokens)

    def _chosen(self, due: list[_Client]) -> tuple[list[_Client], int]:
        """Drafts first, the longest waiting before others; then gaps, as far as they are free."""
        due.sort(key=lambda client: client.ready_since)
        needed, optional = ([client for client in due if client.is_optional is flag] for flag in (False, True))
        if not needed:
            needed, optional = optional, []
        chosen: list[_Client] = []
        num_read = 0
        for clients, most in ((needed, self._profile.token_budget), (optional, min(self._num_free, self._profile.token_budget))):
            for client in clients:
                if num_read + 1 + client.num_nodes > most and (chosen or clients is optional):
                    break
                chosen.append(client)
                num_read += 1 + client.num_nodes
        return chosen, num_read


def _outcome(setting: Setting, way: Way, verifier: _Verifier, clients: list[_Client], seconds: float) -> Outcome:
    num_tokens = max(sum(client.num_tokens for client in clients), 1)
    per_token = [apart for client in clients for apart in client.per_token_s] or [seconds]
    p50, p95 = np.quantile(per_token, (0.5, 0.95))
    device = setting.device
    up_bytes = sum(client.up.num_bytes for client in clients)
    joules = sum(client.draft_s for client in clients) * device.draft_w + len(clients) * seconds * device.idle_w + up_bytes * device.byte_j
    return Outcome(
        way=way,
        num_clients=len(clients),
        tokens_per_s=num_tokens / seconds,
        time_per_token_s_p50=float(p50),
        time_per_token_s_p95=float(p95),
        tokens_per_decision=num_tokens / max(sum(client.num_decisions for client in clients), 1),
        verifier_s_per_token=verifier.busy_s / max(verifier.num_tokens, 1),
        joules_per_token=joules / num_tokens,
        up_bytes_per_token=up_bytes / num_tokens,
        load=verifier.busy_s / seconds,
    )
