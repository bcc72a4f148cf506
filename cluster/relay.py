"""The sockets of an emulated link: what one end of a connection reads comes out of the other end when it is due.

Knows sockets, timers and how much may be under way; what is due when is the shaper's affair. Both sockets have TCP_NODELAY,
which asyncio sets. It costs some callbacks a piece, and nothing a byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from collections.abc import Callable
from typing import cast

from cluster.link_clock import LinkClock
from cluster.shaper import Flow, Shaper

_MAX_BYTES = 1 << 20  # under way in one direction; one read of a socket may come on top
_EARLY_S = 0.00075  # an event loop rounds its waiting up to whole milliseconds, and wakes up late: what that comes to is given back
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for no time at all


class Way:
    """One direction of a link, shared by its connections. The counts are of what has gone in."""

    def __init__(self, shaper: Shaper, clock: LinkClock) -> None:
        self.shaper, self.clock = shaper, clock
        self.ends: set[End] = set()  # the open sockets that are read from
        self.is_full = False
        self.reset_counts()

    def reset_counts(self) -> None:
        self.num_bytes = self.num_reads = 0

    def weigh(self) -> None:
        """All ends stop reading when too much is under way, and go on when half of that is."""
        is_full = self.shaper.num_bytes >= (_MAX_BYTES // 2 if self.is_full else _MAX_BYTES)
        if is_full != self.is_full:
            self.is_full = is_full
            for end in self.ends:
                end.read_or_wait()


class End(asyncio.Protocol):
    """One socket of a connection: what it reads goes `way`, and comes out of `other`. Reads nothing before `start`.

    `on_made` is called when the socket is connected; `lost` is done when it is closed.
    """

    other: End

    def __init__(self, way: Way, on_made: Callable[[End], None]) -> None:
        self._way, self._on_made = way, on_made
        self._flow = Flow(way.shaper)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_started = self._is_read_out = self._was_reset = False
        self.is_clogged = False  # takes no bytes for the moment
        self.is_silenced = False  # what it reads goes nowhere, its end too, and nobody is told
        self.has_told = False  # the other end knows that nothing more comes from here
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        self._is_started = True
        self.read_or_wait()

    def read_or_wait(self) -> None:
        if not self._is_started or self._is_read_out or self._way.is_full or self.other.is_clogged:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def reset(self) -> None:
        """Whoever is at this end gets a reset, now; what was under way on the connection is lost."""
        if not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.abort()

    def abort(self) -> None:
        """As `reset`, but to who is at this end it looks as if all had been said."""
        self.forget()
        self.other.forget()
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._way.ends.add(self)
        self.read_or_wait()
        self._on_made(self)

    def data_received(self, data: bytes) -> None:
        if self.is_silenced:
            return
        self._way.num_bytes += len(data)
        self._way.num_reads += 1
        self._flow.push(data)
        self._way.weigh()
        self._deliver_if_idle()

    def eof_received(self) -> bool:
        self._is_read_out = True
        if not self.is_silenced:
            self._flow.end()
            self._deliver_if_idle()
        return True  # the other direction may go on

    def connection_lost(self, exc: Exception | None) -> None:
        self._way.ends.discard(self)
        self.lost.set_result(None)
        if exc is not None and not self.is_silenced:  # by who is here: the other end learns of it when what was sent before has come
            self._was_reset, self.has_told = True, False
            self._flow.end()
            self._deliver_if_idle()

    def pause_writing(self) -> None:
        self.is_clogged = True
        self.other.read_or_wait()

    def resume_writing(self) -> None:
        self.is_clogged = False
        self.other.read_or_wait()

    def _deliver_if_idle(self) -> None:
        if self._timer is None:
            self._deliver()

    def _deliver(self) -> None:
        self._timer = None
        clock, sink = self._way.clock, self.other.transport
        until = -math.inf if clock.is_stalled else clock.now() + _EARLY_S
        if data := self._flow.take(until):
            self._way.weigh()
            if not sink.is_closing():
                sink.write(data)
        if self._flow.has_ended(until):
            self._tell_end()
        elif self._flow.next_due < math.inf:
            when = max(clock.real(self._flow.next_due) - _EARLY_S, clock.stalled_until)
            self._timer = self._loop.call_at(when, self._deliver)

    def _tell_end(self) -> None:
        self.has_told = True
        if self._was_reset:
            self.other.reset()
        elif self.other.has_told:
            self.transport.close()
            self.other.transport.close()
        elif not self.other.transport.is_closing():
            with contextlib.suppress(OSError):  # reset just now, which is about to be seen
                self.other.transport.write_eof()

    def forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flow.drop()
        self._way.weigh()
