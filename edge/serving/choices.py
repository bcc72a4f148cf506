"""The choices of one request, written side by side as far as there are seats.

Knows tasks and a queue; knows nothing of what is in a delta but that the last says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from edge.serving.choice import Choice, Delta
from edge.serving.seats import Seats

_AHEAD = 64  # deltas that wait for a caller who reads slowly, before the choices wait for it


async def written(choices: Sequence[Choice], seats: Seats) -> AsyncGenerator[Delta, None]:
    """The deltas of all choices as they come. The first error ends them all, and so does a caller who closes this."""
    coming: asyncio.Queue[Delta | Exception] = asyncio.Queue(_AHEAD)

    async def write(choice: Choice) -> None:
        try:
            async with seats.seat() as seat, aclosing(choice.runs(seat.completer(choice.objective))) as deltas:
                async for delta in deltas:
                    await coming.put(delta)
        except Exception as error:  # noqa: BLE001  # it is raised where the deltas are read
            await coming.put(error)

    tasks = [asyncio.create_task(write(choice)) for choice in choices]
    num_left = len(tasks)
    try:
        while num_left:
            delta = await coming.get()
            if isinstance(delta, Exception):
                raise delta
            num_left -= delta.finish is not None
            yield delta
    finally:
        if num_left:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
