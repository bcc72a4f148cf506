"""A client that sends the largest blocks that are legal as fast as it can, in a process of its own.

Its frames are made before the first is sent: what it costs is what they cost the verifier. Knows the wire; knows nothing of who
suffers from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeAlias

import grpc.aio
import numpy as np

from cactus_core.block import Block
from cactus_core.errors import error_for
from cactus_core.lattice import LatticeLaws
from cactus_core.session import Limits, Request, Served
from cactus_core.wire import codec
from cactus_core.wire.frames import Inbox, Outbox, cloud_frame
from cactus_core.wire.v1 import speculation_pb2 as pb
from cloud.serving import SERVICE, TENANT
from edge.link import Endpoint

_BITS = 14
_NUM_FRAMES = 4  # sent in turn
_PROMPT = (1, 2, 3)
_NAME = "hog"  # as whom a gateway would announce it: fairness is between tenants, and on loopback all are one
_PATIENCE_S = 60.0

Method: TypeAlias = "grpc.aio.StreamStreamMultiCallable[bytes, bytes]"


@contextmanager
def hog(address: str, num_streams: int) -> Iterator[Hog]:
    """One that is at rest until it is put to work."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(address, num_streams, there), daemon=True)
    process.start()
    there.close()  # so that its death is seen here
    try:
        yield Hog(here)
    finally:
        here.close()
        process.join()


class Hog:
    """Its process's end of `connection` is told to work (True) or to rest, and tells of its first decision, and at rest of all."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.num_decided = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """From its first decision on; then `num_decided` are the blocks that it had decided. Raises `TimeoutError` when there is none."""
        self._connection.send(True)
        self._await()
        try:
            yield
        finally:
            self._connection.send(False)
            self.num_decided = self._await()

    def _await(self) -> int:
        if not self._connection.poll(_PATIENCE_S):
            raise TimeoutError("the hog's blocks are not decided")
        return int(self._connection.recv())


def largest_block(limits: Limits, vocab_size: int, rng: np.random.Generator) -> Block:
    """As many paths, tokens a path and tokens a law as are legal; no two paths begin alike, so that every token is to be read."""
    num_laws = limits.max_rows * limits.max_length
    size = min(limits.max_support, limits.max_law_tokens // num_laws, vocab_size)
    ids = np.sort(rng.permuted(np.tile(np.arange(vocab_size), (num_laws, 1)), axis=1)[:, :size], axis=1)
    counts = 1 + rng.multinomial((1 << _BITS) - size, rng.dirichlet(np.ones(size)), num_laws)
    law_of = np.arange(num_laws).reshape(limits.max_rows, limits.max_length)
    law_of[:, 0] = 0  # all begin at the same place
    choices = rng.integers(size, size=law_of.shape)
    choices[:, 0] = rng.permutation(size)[: limits.max_rows]
    return Block(0, ids[law_of, choices], law_of, LatticeLaws(ids, counts, _BITS))


def _run(address: str, num_streams: int, connection: Connection) -> None:
    with suppress(EOFError):
        asyncio.run(_work(address, num_streams, connection))


async def _work(address: str, num_streams: int, connection: Connection) -> None:
    """Until the other end is closed, which raises `EOFError`."""
    async with Endpoint(address) as endpoint:
        served = await endpoint.describe()
    rng = np.random.default_rng(0)
    blocks = [largest_block(served.limits, served.vocab_size, rng) for _ in range(_NUM_FRAMES)]
    frames = [pb.EdgeFrame(draft_block=codec.pack_block(block, 0)).SerializeToString() for block in blocks]
    async with grpc.aio.insecure_channel(address) as channel:
        method: Method = channel.stream_stream(f"/{SERVICE}/Speculate")  # type: ignore[call-arg]  # bytes are left as they are
        while connection.recv():
            shift = _Shift(connection)
            await asyncio.gather(*(_stream(method, served, frames, shift) for _ in range(num_streams)))
            connection.send(shift.num_decided)


@dataclass(slots=True)
class _Shift:
    """From one call to work to the call to rest."""

    connection: Connection
    num_decided: int = 0
    is_over: bool = False

    def note(self) -> None:
        """One more block was decided."""
        if self.num_decided == 0:
            self.connection.send(1)
        self.num_decided += 1
        self.is_over = self.is_over or (self.connection.poll() and not self.connection.recv())


async def _stream(method: Method, served: Served, frames: list[bytes], shift: _Shift) -> None:
    """One text after the other. Raises what a block is refused with: then it is not legal."""
    num_drafted = served.limits.max_rows * served.limits.max_length
    request = Request(_PROMPT, served.max_positions - len(_PROMPT) - num_drafted, seed=0, fingerprint=served.fingerprint)
    while not shift.is_over:
        call = method(None, metadata=grpc.aio.Metadata((TENANT, _NAME)))
        inbox, outbox = Inbox(), Outbox()
        await call.write(outbox.seal(pb.EdgeFrame(open=codec.pack_request(request))))
        opened = await call.read()
        if isinstance(opened, bytes):
            inbox.open(opened)
        base, finish = len(_PROMPT), pb.FINISH_NONE
        for number, frame in enumerate(cycle(frames)):
            if shift.is_over or finish != pb.FINISH_NONE:
                break
            # Messages that follow one another are one message, in which the later fields count: the laws are packed once.
            place = pb.EdgeFrame(draft_block=pb.DraftBlock(round=number, base=base))
            await call.write(outbox.seal_payload(frame + place.SerializeToString()))
            answered = await call.read()
            if not isinstance(answered, bytes):
                raise error_for((await call.code()).name, await call.details() or "the stream ended before the text did")
            answer = cloud_frame(inbox.open(answered))
            base, finish = base + len(answer.decision.logprobs), answer.decision.finish
            shift.note()
        await call.write(outbox.seal(pb.EdgeFrame(close=pb.Close())))
        await call.done_writing()
        await call.read()
