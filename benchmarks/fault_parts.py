"""A verifier or a gateway in a process of its own, that can be killed and serves again at the same address.

Knows the verbs of the command line; knows nothing of who calls.
"""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from cactus_core.errors import CactusError

_STOP_S = 5.0


class Part:
    """`address` stays the same for as long as it is kept; `metrics` is where it tells its own, anew after each start."""

    def __init__(self, verb: str, arguments: tuple[str, ...]) -> None:
        self._verb, self._arguments = verb, arguments
        self.address, self.metrics = "127.0.0.1:0", ""
        self._process: Process | None = None

    async def start(self) -> None:
        """Returns once it serves. Raises `CactusError` where it ends instead."""
        where = ("--listen", self.address, "--metrics", "127.0.0.1:0")
        command = (sys.executable, "-m", "cluster", self._verb, *where, *self._arguments)
        self._process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
        line = await self._process.stdout.readline() if self._process.stdout is not None else b""
        ports = re.search(rb" on port (\d+).*metrics on port (\d+)", line)
        if ports is None:
            raise CactusError(f"a {self._verb} ended with status {await self._process.wait()}")
        self.address, self.metrics = (f"127.0.0.1:{int(port)}" for port in ports.groups())

    async def killed(self) -> None:
        """By SIGKILL; returns once another serves in its place."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
        await self.start()

    async def gauge(self, name: str) -> float:
        """What it tells now of itself, summed over its labels."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://{self.metrics}/metrics", timeout=30.0)).text
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def started(verb: str, *arguments: str) -> AsyncIterator[Part]:
    part = Part(verb, arguments)
    try:
        await part.start()
        yield part
    finally:
        await part.stop()
