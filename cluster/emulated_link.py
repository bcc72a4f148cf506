"""A TCP relay that stands where a network would: for now a perfect link that counts bytes.

What it counts is what a socket carries: gRPC's and HTTP/2's framing included, TCP's headers not. Delay, bandwidth and
loss are to come. Knows bytes; knows nothing of what they mean.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self

_CHUNK_BYTES = 1 << 16


class EmulatedLink:
    """Relays `127.0.0.1:port` to `endpoint`, an async context. `up_bytes` and `down_bytes` count since the last `reset`."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.rpartition(":")
        self._far = host, int(port)
        self._connections: set[asyncio.Task[None]] = set()
        self.reset()

    def reset(self) -> None:
        self.up_bytes = self.down_bytes = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in tuple(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a server's callback always runs in one
        self._connections.add(task)
        try:
            # Either side may reset the connection at any time: then it is over, and so is the relay's part.
            with contextlib.suppress(ConnectionError):
                far_reader, far_writer = await asyncio.open_connection(*self._far)
                await asyncio.gather(_pump(reader, far_writer, self._count_up), _pump(far_reader, writer, self._count_down))
        except asyncio.CancelledError:
            pass  # the link is being closed
        finally:
            writer.close()
            self._connections.discard(task)

    def _count_up(self, num_bytes: int) -> None:
        self.up_bytes += num_bytes

    def _count_down(self, num_bytes: int) -> None:
        self.down_bytes += num_bytes


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            count(len(data))
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
