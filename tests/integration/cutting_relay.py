"""A link that can be cut: a relay of bytes in this process."""

import asyncio
import contextlib


class CuttingRelay:
    """Passes bytes to `far` and back until it is told to cut. While it `refuses`, new connections are closed at once."""

    def __init__(self, far):
        self.far, self.refuses, self.num_refused, self.tasks, self.writers = far, False, 0, set(), set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.cut()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def cut(self):
        for writer in self.writers:
            writer.transport.abort()

    async def relay(self, reader, writer):
        self.tasks.add(task := asyncio.current_task())
        if self.refuses:
            self.num_refused += 1
            writer.transport.abort()
        else:
            host, port = self.far.split(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            self.writers |= {writer, far_writer}
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
            self.writers -= {writer, far_writer}
        self.tasks.discard(task)


async def pump(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
