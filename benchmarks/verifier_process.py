"""A verifier of the demo target behind its service, in a process of its own.

Knows the service; knows nothing of its clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

from cactus_core.demo_pair import demo_model
from cactus_core.turn_taking import take_short_turns
from cloud.service import VerifierServer

_MEMORY_GIB = 0.5
_PATIENCE_S = 120.0


@contextmanager
def verifier_process(num_threads: int, step_at_least_s: float = 0.0) -> Iterator[str]:
    """Its address, once it serves. Steps are padded to `step_at_least_s` (*emulated*). Raises `TimeoutError`, or `EOFError` where it
    ends, when it does not.
    """
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(there, num_threads, step_at_least_s), daemon=True)
    process.start()
    there.close()  # so that its death is seen here
    try:
        if not here.poll(_PATIENCE_S):
            raise TimeoutError("the verifier does not start")
        yield f"127.0.0.1:{here.recv()}"
    finally:
        here.close()
        process.join()


def _run(parent: Connection, num_threads: int, step_at_least_s: float) -> None:
    torch.set_num_threads(num_threads)
    take_short_turns()
    asyncio.run(_serve(parent, step_at_least_s))


async def _serve(parent: Connection, step_at_least_s: float) -> None:
    """Until the parent closes its end."""
    server = VerifierServer(demo_model("target"), "127.0.0.1:0", memory_gib=_MEMORY_GIB, step_at_least_s=step_at_least_s)
    async with server:
        await server.loaded()
        parent.send(server.port)
        with suppress(EOFError):
            await asyncio.to_thread(parent.recv)
