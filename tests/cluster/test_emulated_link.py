"""The relay over real sockets: what passes, what is counted, and what a cut leaves."""

import asyncio
import contextlib
import random
import socket
import struct

import pytest

from cactus_core.errors import InvalidInput
from cluster.emulated_link import EmulatedLink
from cluster.link_profile import PROFILES, LinkProfile
from cluster.link_trace import LinkTrace

SHORT = LinkProfile("short", round_trip_s=0.02)
ODD = LinkProfile("odd", round_trip_s=0.01, jitter_s=0.005, up_bits_per_s=40e6, down_bits_per_s=80e6, loss=0.05, retransmit_s=0.01)
SLACK_S = 0.002  # a timer of the link may be early by less


async def until(holds):
    async with asyncio.timeout(20.0):  # a test that fails should end
        while not holds():  # what is waited for has no event  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class FarSide:
    """A server that sends back what it gets, and remembers how each connection ended: None is well."""

    def __init__(self):
        self.ends = asyncio.Queue()
        self.num_open = 0

    async def serve(self, reader, writer):
        self.num_open += 1
        try:
            while data := await reader.read(1 << 16):
                await self.answer(writer, data)
            await self.finish(writer)
        except ConnectionError as error:
            self.ends.put_nowait(error)
        else:
            self.ends.put_nowait(None)
        finally:
            self.num_open -= 1
            writer.close()

    async def answer(self, writer, data):
        writer.write(data)
        await writer.drain()

    async def finish(self, writer):
        pass

    @contextlib.asynccontextmanager
    async def behind(self, profile=PROFILES["perfect"], **more):
        async with self.listening() as endpoint, EmulatedLink(endpoint, profile, **more) as link:
            yield link

    @contextlib.asynccontextmanager
    async def listening(self):
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await until(lambda: self.num_open == 0)  # what the link closed, the far side sees in its own time


@contextlib.asynccontextmanager
async def connected(link):
    reader, writer = await asyncio.open_connection(*link.address.split(":"))
    try:
        yield reader, writer
    finally:
        writer.close()


async def echoed(link, data):
    async with connected(link) as (reader, writer):
        writer.write(data)
        writer.write_eof()
        return await reader.read()


@pytest.mark.parametrize("profile", [PROFILES["perfect"], PROFILES["near"], ODD], ids=lambda profile: profile.name)
async def test_bytes_pass_unchanged_and_are_counted_each_way(profile):
    async with FarSide().behind(profile) as link:
        data = random.Random(1).randbytes(200_000)
        assert await echoed(link, data) == data
        assert (link.up_bytes, link.down_bytes) == (200_000, 200_000)
        assert link.up_writes > 0
        assert link.down_writes > 0
        link.reset()
        assert (link.up_bytes, link.down_bytes, link.up_writes, link.down_writes) == (0, 0, 0, 0)


async def test_writes_that_are_apart_in_time_are_counted_one_by_one():
    async with FarSide().behind() as link, connected(link) as (reader, writer):
        for _ in range(5):
            writer.write(b"token")
            await reader.readexactly(5)
        assert (link.up_writes, link.down_writes) == (5, 5)


async def test_connections_do_not_mix():
    texts = [random.Random(seed).randbytes(20_000 + seed) for seed in range(8)]
    async with FarSide().behind(ODD, seed=3) as link:
        assert await asyncio.gather(*(echoed(link, text) for text in texts)) == texts


async def test_no_byte_is_lost_while_the_link_changes_and_stalls():
    data = random.Random(2).randbytes(400_000)
    async with FarSide().behind(ODD) as link:
        pending = asyncio.create_task(echoed(link, data))
        for name in ("perfect", "near", "perfect"):
            link.stall(0.01)
            await asyncio.sleep(0.02)
            link.set_profile(PROFILES[name])
            assert link.profile.name == name
        assert await pending == data


async def test_the_far_side_may_go_on_when_the_near_side_has_said_all():
    class LastWord(FarSide):
        async def answer(self, writer, data):
            pass

        async def finish(self, writer):
            await asyncio.sleep(0.01)
            writer.write(b"last word")

    async with LastWord().behind(SHORT) as link:
        assert await echoed(link, b"x") == b"last word"


async def test_both_sockets_of_a_connection_send_small_writes_at_once():
    async with FarSide().behind() as link, connected(link) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        sockets = [end.transport.get_extra_info("socket") for end in link._ends()]
        assert [bool(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) for each in sockets] == [True, True]


async def test_a_byte_is_not_back_before_the_round_trip_and_a_new_connection_takes_one_more():
    now = asyncio.get_running_loop().time
    async with FarSide().behind(SHORT) as link, connected(link) as (reader, writer):
        for least_s in (2 * SHORT.round_trip_s, SHORT.round_trip_s):
            start = now()
            writer.write(b"x")
            await reader.readexactly(1)
            assert now() - start > least_s - SLACK_S


async def test_nothing_passes_while_the_link_stalls():
    now = asyncio.get_running_loop().time
    async with FarSide().behind() as link, connected(link) as (reader, writer):
        writer.write(b"before")
        await reader.readexactly(6)
        start = now()
        link.stall(0.05)
        writer.write(b"after")
        assert await reader.readexactly(5) == b"after"
        assert now() - start >= 0.05


async def test_at_most_a_mebibyte_and_one_read_are_under_way():
    under_way = []

    class Watch(FarSide):
        async def answer(self, writer, data):
            under_way.append(link._up.shaper.num_bytes)

    data = bytes(4 << 20)
    async with Watch().behind(LinkProfile("long", round_trip_s=0.1)) as link:
        assert await echoed(link, data) == b""
        assert link.up_bytes == len(data)
    assert 1 << 19 < max(under_way) <= (1 << 20) + (1 << 18)


async def test_a_far_side_that_does_not_read_makes_the_near_side_wait_and_no_other():
    class Deaf(FarSide):
        async def serve(self, reader, writer):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            await super().serve(reader, writer)

        async def answer(self, writer, data):
            if data.startswith(b"long"):
                await heard.wait()

    heard = asyncio.Event()
    async with Deaf().behind() as link, connected(link) as (_, writer):
        data = b"long" + bytes(24 << 20)
        writer.write(data)
        waiting = asyncio.create_task(writer.drain())
        num_bytes = -1
        while link.up_bytes > num_bytes:
            num_bytes = link.up_bytes
            await asyncio.sleep(0.05)
        assert not waiting.done()
        assert link.up_bytes < len(data)
        assert await echoed(link, b"short") == b""
        heard.set()
        await waiting


async def test_a_cut_resets_both_ends_and_a_new_connection_works():
    far = FarSide()
    async with far.behind(SHORT) as link, connected(link) as (reader, writer):
        writer.write(b"seen")
        await reader.readexactly(4)
        writer.write(b"lost")
        link.cut()
        with pytest.raises(ConnectionError):
            await reader.read()
        assert isinstance(await far.ends.get(), ConnectionError)
        assert await echoed(link, b"again") == b"again"
        assert await far.ends.get() is None


async def test_a_connection_that_is_being_made_is_cut_too():
    async with FarSide().behind(LinkProfile("long", round_trip_s=60.0)) as link, connected(link) as (reader, _):
        await until(lambda: link._connecting)
        link.cut()
        with pytest.raises(ConnectionError):
            await reader.read()
        await until(lambda: not link._connecting)


async def test_a_cut_empties_the_queue():
    async with FarSide().behind(LinkProfile("thin", up_bits_per_s=8000.0)) as link, connected(link) as (_, writer):
        writer.write(bytes(100_000))
        await until(lambda: link.up_bytes == 100_000)
        assert link._up.shaper.due(0) - link._clock.now() > 90
        link.cut()
        assert link._up.shaper.due(0) - link._clock.now() < 1


async def test_a_connection_that_is_over_is_closed_at_both_ends():
    async with FarSide().behind(SHORT) as link:
        await echoed(link, b"x")
        await until(lambda: not link._ends())


@pytest.mark.parametrize("num_turns", range(8))
async def test_a_connection_that_comes_as_the_link_is_left_is_closed_too(num_turns):
    async with FarSide().listening() as endpoint:
        link = await EmulatedLink(endpoint).__aenter__()
        with socket.create_connection(tuple(link.address.split(":"))) as near:
            for _ in range(num_turns):
                await asyncio.sleep(0)
            await link.__aexit__()
            near.setblocking(False)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.get_running_loop().sock_recv(near, 1) == b""
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_link_that_refuses_keeps_what_is_open_and_takes_new_connections_later():
    async with FarSide().behind() as link, connected(link) as (reader, writer):
        writer.write(b"open")
        await reader.readexactly(4)
        link.refuse(0.1)
        num_refused = 0
        while True:
            try:
                assert await echoed(link, b"new") == b"new"
                break
            except ConnectionError:
                num_refused += 1
                await asyncio.sleep(0.01)
        assert num_refused > 0
        writer.write(b"still open")
        assert await reader.readexactly(10) == b"still open"


async def test_a_far_side_that_is_not_there_resets_the_connection():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
    async with EmulatedLink(endpoint) as link, connected(link) as (reader, _):
        with pytest.raises(ConnectionError):
            await reader.read()


async def test_a_reset_at_one_end_reaches_the_other_after_what_was_sent():
    heard = b""

    class Listen(FarSide):
        async def answer(self, writer, data):
            nonlocal heard
            heard += data

    far = Listen()
    async with far.behind(SHORT) as link, connected(link) as (_, writer):
        writer.write(b"last words")
        await until(lambda: link.up_bytes == 10)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        assert isinstance(await far.ends.get(), ConnectionError)
        assert heard == b"last words"


async def test_the_link_follows_its_trace():
    cuts_s = tuple(0.1 * 2**n for n in range(8))  # the first that finds a connection
    trace = LinkTrace(steps=((0.05, ODD), (0.0, SHORT)), cuts_s=cuts_s)
    async with FarSide().behind(trace=trace) as link, connected(link) as (reader, _):
        with pytest.raises(ConnectionError):
            await reader.read()
        assert link.profile is ODD


async def test_a_link_that_is_left_leaves_nothing():
    far = FarSide()
    trace = LinkTrace(steps=((60.0, ODD),), cuts_s=(61.0,))
    async with far.listening() as endpoint:
        link = await EmulatedLink(endpoint, LinkProfile("long", round_trip_s=0.1, up_bits_per_s=1e6), trace=trace).__aenter__()
        address = link.address.split(":")
        async with connected(link) as (reader, writer), connected(link) as (silent, _):
            await until(lambda: far.num_open == 2)
            writer.write(bytes(100_000))  # under way for most of a second
            await until(lambda: link.up_bytes)
            async with connected(link) as (unmade, _):
                await until(lambda: link._connecting)
                timers = [end._timer for end in link._ends() if end._timer]
                assert timers
                await link.__aexit__()
                assert all(timer.cancelled() for timer in timers)
                assert [await each.read() for each in (reader, silent, unmade)] == [b""] * 3
                assert not link._ends()
                assert not link._connecting
                assert link._up.shaper.num_bytes == 0
                assert all(event.cancelled() for event in link._events)
                with pytest.raises(ConnectionError):
                    await asyncio.open_connection(*address)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("endpoint", ["nowhere", ":8000", "127.0.0.1:", "127.0.0.1:port"])
def test_an_endpoint_must_be_one(endpoint):
    with pytest.raises(InvalidInput, match="endpoint"):
        EmulatedLink(endpoint)


async def test_a_refusal_must_have_a_length():
    async with EmulatedLink("127.0.0.1:1") as link:
        with pytest.raises(InvalidInput, match="refuse"):
            link.refuse(-1.0)


@pytest.mark.parametrize("upward", [True, False])
async def test_a_half_open_connection_swallows_one_direction_and_says_nothing(upward):
    async with FarSide().behind() as link, connected(link) as (reader, writer):
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        link.half_open(upward=upward)
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        async with connected(link) as (other_reader, other_writer):
            other_writer.write(b"after")
            assert await other_reader.readexactly(5) == b"after"
