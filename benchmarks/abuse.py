"""Claim: whoever abuses a gateway gets one clear status, and raises the 95th percentile of others' rounds by at most 2 times.

Abusers, each from a process of its own: streams without a token and streams with one, five hundred a second; a tenant that goes on beyond
its quota; messages of 1 GB; a caller that asks and never reads. The victim is another tenant with ten streams, ten rounds a second each;
runs alone and beside the abuser take turns. Verifier is the load benchmark's STUB; all parts share this machine's cores, the abuser's too,
as they would not elsewhere.
Refuted by: a `slowdown_p95` above 2, or a status beside what SECURITY.md says.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from benchmarks.load_parts import Serve, opening_frame, tree_frame
from cactus_core.wire.frames import Outbox
from cloud.serving import SERVICE
from cluster.access.security import Security
from cluster.access.tenants import digest_of
from cluster.gateway import GatewayServer
from cluster.router import Router

LIMIT = 2.0
VICTIM, ABUSER = "victims-token-of-32-characters-xx", "abusers-token-of-32-characters-xx"
_TENANTS = f"""
[tenants.victim]
tokens_sha256 = ["{digest_of(VICTIM)}"]

[tenants.abuser]
tokens_sha256 = ["{digest_of(ABUSER)}"]
positions_per_s = 2000.0
positions_burst = 4000.0
"""
_OPENS_PER_S = 500.0
_GIGABYTE = 1 << 30
_PAUSE_S = 0.02  # after a stream was refused or ended
_SPECULATE = f"/{SERVICE}/Speculate"


@contextmanager
def tenants_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tenants.toml"
        path.write_text(_TENANTS, "utf8")
        yield path


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def guarded_gateway(serve: Serve, replica: str, tenants: Path) -> None:
    async with GatewayServer("127.0.0.1:0", Router([replica]), Security(tenants=tenants)) as server:
        await server.ready()
        await serve(f"127.0.0.1:{server.port}")


async def abuser(serve: Serve) -> None:
    """Begins and ends one kind of abuse at a time; `end` tells how often which status came."""
    running: list[asyncio.Task[None]] = []
    seen: Counter[str] = Counter()

    async def begin(kind: str, address: str) -> None:
        running.append(asyncio.create_task(_abuse(kind, address, seen)))

    async def end() -> dict[str, int]:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        told = dict(seen)
        running.clear()
        seen.clear()
        return told

    try:
        await serve(None, begin=begin, end=end)
    finally:
        await end()


async def _abuse(kind: str, address: str, seen: Counter[str]) -> None:
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        await KINDS[kind](channel, seen)


async def _flood(channel: Any, seen: Counter[str], metadata: tuple[tuple[str, str], ...]) -> None:
    """Each stream is opened and left."""
    open_now: set[asyncio.Task[None]] = set()

    async def one() -> None:
        outbox = Outbox()
        call = channel.stream_stream(_SPECULATE)(metadata=metadata)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(outbox.seal(opening_frame()))
            await call.read()
            await call.done_writing()
            while isinstance(await call.read(), bytes):
                pass
        seen[(await call.code()).name] += 1

    due = time.monotonic()
    try:
        while True:
            task = asyncio.create_task(one())
            open_now.add(task)
            task.add_done_callback(open_now.discard)
            due += 1.0 / _OPENS_PER_S
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
    finally:
        for task in open_now:
            task.cancel()


async def _without_a_token(channel: Any, seen: Counter[str]) -> None:
    await _flood(channel, seen, ())


async def _with_a_token(channel: Any, seen: Counter[str]) -> None:
    await _flood(channel, seen, bearer(ABUSER))


async def _over_quota(channel: Any, seen: Counter[str]) -> None:
    """Round after round as fast as they are answered."""
    while True:
        outbox, number = Outbox(), 0
        call = channel.stream_stream(_SPECULATE)(metadata=bearer(ABUSER))
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(outbox.seal(opening_frame()))
            while isinstance(await call.read(), bytes):
                number += 1
                await call.write(outbox.seal(tree_frame(number)))
        seen[(await call.code()).name] += 1
        await asyncio.sleep(_PAUSE_S)


async def _huge_messages(channel: Any, seen: Counter[str]) -> None:
    huge = bytes(_GIGABYTE)
    while True:
        call = channel.stream_stream(_SPECULATE)(metadata=bearer(ABUSER))
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(huge)
            await call.read()
        seen[(await call.code()).name] += 1
        await asyncio.sleep(1.0)


async def _never_reads(channel: Any, seen: Counter[str]) -> None:
    calls = [channel.stream_stream(_SPECULATE)(metadata=bearer(ABUSER)) for _ in range(8)]

    async def ask(call: Any) -> None:
        outbox, number = Outbox(), 0
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(outbox.seal(opening_frame()))
            while True:
                number += 1
                await call.write(outbox.seal(tree_frame(number)))
                await asyncio.sleep(_PAUSE_S)
        seen[(await call.code()).name] += 1

    await asyncio.gather(*map(ask, calls))


KINDS: dict[str, Callable[[Any, Counter[str]], Any]] = {
    "no token, 500 opens/s": _without_a_token,
    "500 opens/s": _with_a_token,
    "over its quota": _over_quota,
    "messages of 1 GB": _huge_messages,
    "never reads": _never_reads,
}
