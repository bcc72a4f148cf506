"""The relay that counts what a socket carries."""

import asyncio

from cluster.emulated_link import EmulatedLink


async def answer_twice(reader, writer):
    data = await reader.readexactly(1000)
    writer.write(data * 2)
    writer.close()


async def test_bytes_pass_unchanged_and_are_counted_each_way():
    far = await asyncio.start_server(answer_twice, "127.0.0.1", 0)
    async with far, EmulatedLink(f"127.0.0.1:{far.sockets[0].getsockname()[1]}") as link:
        reader, writer = await asyncio.open_connection(*link.address.split(":"))
        writer.write(b"x" * 1000)
        assert await reader.read() == b"x" * 2000
        assert (link.up_bytes, link.down_bytes) == (1000, 2000)
        link.reset()
        assert (link.up_bytes, link.down_bytes) == (0, 0)
        writer.close()


async def test_a_far_side_that_is_not_there_ends_the_connection():
    async with EmulatedLink("127.0.0.1:1") as link:
        reader, writer = await asyncio.open_connection(*link.address.split(":"))
        assert await reader.read() == b""
        writer.close()
