"""An emulated link in a process of its own, so that it is late by what it emulates and not by what its edge computes.

Knows links; knows nothing of what goes over them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from cluster.emulated_link import EmulatedLink
from cluster.link_profile import profile_named

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over a link since it was last asked."""

    up_bytes: int
    down_bytes: int
    num_messages: int


class RemoteLink:
    """The link's other end here. Edges go to `address`."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.address: str = str(self._answer())

    def set_profile(self, name: str) -> None:
        self._ask("profile", name)

    def cut(self) -> None:
        self._ask("cut", "")

    def traffic(self) -> Traffic:
        """Counts, which start again from nothing."""
        self._pipe.send(("traffic", ""))
        up_bytes, down_bytes, num_messages = self._answer()
        return Traffic(up_bytes, down_bytes, num_messages)

    def _ask(self, what: str, value: str) -> None:
        self._pipe.send((what, value))
        self._answer()

    def _answer(self) -> Any:
        if not self._pipe.poll(_PATIENCE_S):
            raise TimeoutError("the link does not answer")
        return self._pipe.recv()


@contextmanager
def link_process(endpoint: str) -> Iterator[RemoteLink]:
    """A link to `endpoint`, perfect until it is told otherwise."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(there, endpoint), daemon=True)
    process.start()
    there.close()  # so that its death is seen here
    try:
        yield RemoteLink(here)
    finally:
        here.close()
        process.join()


def _run(parent: Connection, endpoint: str) -> None:
    asyncio.run(_relay(parent, endpoint))


async def _relay(parent: Connection, endpoint: str) -> None:
    """Until the parent closes its end."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    async with EmulatedLink(endpoint) as link:

        def serve() -> None:
            try:
                what, value = parent.recv()
            except EOFError:
                loop.remove_reader(parent.fileno())
                over.set()
                return
            match what:
                case "profile":
                    link.set_profile(profile_named(value))
                case "cut":
                    link.cut()
            counts = link.up_bytes, link.down_bytes, link.up_writes + link.down_writes
            if what == "traffic":
                link.reset()
            parent.send(counts)

        parent.send(link.address)
        loop.add_reader(parent.fileno(), serve)
        await over.wait()
