"""A TCP relay that stands where a network would, and is as slow, as thin and as unreliable as it is told to be.

What it counts is what a socket carries: gRPC's and HTTP/2's framing included, TCP's headers not. Knows bytes; knows
nothing of what they mean.
"""

from __future__ import annotations

import asyncio
import math
from typing import Self

import numpy as np

from cactus_core.errors import InvalidInput
from cluster.link_clock import LinkClock
from cluster.link_profile import PROFILES, LinkProfile
from cluster.link_trace import LinkTrace
from cluster.relay import End, Way
from cluster.shaper import Shaper

_TURNS_TO_MAKE = 3  # of the event loop, from when a connection is accepted until its socket is ours
_NO_TRACE = LinkTrace()


class EmulatedLink:
    """Relays `listen`, `host:port` (port 0: any), to `endpoint`, an async context that leaves no connection open.

    The bandwidth is the link's, not a connection's. A new connection takes a round trip before its first byte leaves, as
    TCP's handshake does. At most 1 MiB is under way each way: a link whose bandwidth times its delay is more carries less.
    `trace` is followed from when the link is entered. `seed` draws jitter and loss; which bytes they meet depends on how the
    senders' writes are read.
    """

    def __init__(
        self,
        endpoint: str,
        profile: LinkProfile = PROFILES["perfect"],
        *,
        listen: str = "127.0.0.1:0",
        seed: int = 0,
        trace: LinkTrace = _NO_TRACE,
    ) -> None:
        self._far, self._listen = _host_and_port(endpoint), _host_and_port(listen)
        self._profile, self._seed, self._trace = profile, seed, trace
        self._refused_until = -math.inf
        self._connecting: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._clock = LinkClock(self._loop.time)
        up, down = (np.random.default_rng((self._seed, direction)) for direction in range(2))
        self._up = Way(Shaper(self._profile, self._profile.up_bits_per_s, up, self._clock.now), self._clock)
        self._down = Way(Shaper(self._profile, self._profile.down_bits_per_s, down, self._clock.now), self._clock)
        self._server = await self._loop.create_server(self._new_connection, *self._listen)
        self._events = [self._loop.call_later(at_s, self.set_profile, profile) for at_s, profile in self._trace.steps]
        self._events += [self._loop.call_later(at_s, self.cut) for at_s in self._trace.cuts_s]
        return self

    async def __aexit__(self, *_: object) -> None:
        # asyncio loses a connection that it has accepted, and for which it has no transport yet, when the server is closed.
        self._loop.remove_reader(self._server.sockets[0].fileno())
        for _turn in range(_TURNS_TO_MAKE):
            await asyncio.sleep(0)
        self._server.close()
        for event in self._events:
            event.cancel()
        connecting = tuple(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        ends = self._ends()
        for end in ends:
            end.abort()
        if ends:
            await asyncio.wait([end.lost for end in ends])
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        return f"{self._listen[0]}:{self._server.sockets[0].getsockname()[1]}"

    @property
    def profile(self) -> LinkProfile:
        return self._profile

    @property
    def up_bytes(self) -> int:
        """Bytes that the edge's side has sent into the link since the last `reset`; `down_bytes` are the cloud's."""
        return self._up.num_bytes

    @property
    def down_bytes(self) -> int:
        return self._down.num_bytes

    @property
    def up_writes(self) -> int:
        """How often bytes were read from the edge's side: its writes, where they are apart in time. `down_writes` likewise."""
        return self._up.num_reads

    @property
    def down_writes(self) -> int:
        return self._down.num_reads

    def reset(self) -> None:
        """Sets all counts to zero."""
        self._up.reset_counts()
        self._down.reset_counts()

    def set_profile(self, profile: LinkProfile) -> None:
        """For what goes in from now on. What is under way comes when it would have come; what follows it on its connection, after it."""
        self._profile = profile
        self._up.shaper.follow(profile, profile.up_bits_per_s)
        self._down.shaper.follow(profile, profile.down_bits_per_s)

    def cut(self) -> None:
        """Resets all connections at both ends, now. What is under way is lost. New connections are welcome."""
        for task in self._connecting:
            task.cancel()
        for end in self._ends():
            end.reset()
        self._up.shaper.empty()
        self._down.shaper.empty()

    def stall(self, seconds: float) -> None:
        """Nothing passes for so long, either way; then all goes on as it was, that much later."""
        self._clock.stall(seconds)

    def half_open(self, *, upward: bool) -> None:
        """From now on nothing that is sent in that direction over the connections that are open comes out, and neither side is told: they
        stand as after a power cut, or behind a firewall that has forgotten them. New connections are whole.
        """
        for end in self._up.ends if upward else self._down.ends:
            end.is_silenced = True

    def refuse(self, seconds: float) -> None:
        """For so long a new connection is reset as soon as it is made; those that are open stay."""
        if not seconds >= 0.0:
            raise InvalidInput(f"a link can refuse connections for 0 or more seconds, not {seconds}")
        self._refused_until = max(self._refused_until, self._loop.time() + seconds)

    def _ends(self) -> set[End]:
        return self._up.ends | self._down.ends

    def _new_connection(self) -> End:
        near, far = End(self._up, self._accepted), End(self._down, _start_both)
        near.other, far.other = far, near
        return near

    def _accepted(self, near: End) -> None:
        if self._loop.time() < self._refused_until:
            near.reset()
            return
        task = self._loop.create_task(self._connect(near))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, near: End) -> None:
        await asyncio.sleep(self._profile.round_trip_s)
        try:
            await self._loop.create_connection(lambda: near.other, *self._far)
        except OSError:
            near.reset()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 1 << 16):
        raise InvalidInput(f"a link needs an endpoint like 127.0.0.1:8000, not {address!r}")
    return host, int(port)


def _start_both(far: End) -> None:
    far.start()
    far.other.start()
