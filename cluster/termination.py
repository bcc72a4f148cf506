"""How a verb that awaits is told to end: by cancelling it, so that no part of it is torn from what it is doing.

A signal's handler that raises would do that, wherever the program stands. Knows signals and loops; knows nothing of what runs.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, which does the same for an interrupt: the first SIGTERM cancels `main`, and raises `KeyboardInterrupt` once
    that has ended.

    Further ones change nothing: whatever was started is being stopped.
    """
    try:
        return asyncio.run(_until_terminated(main))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _until_terminated(main: Coroutine[Any, Any, T]) -> T:
    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
    running = asyncio.ensure_future(main)
    is_told = False

    def end() -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            running.cancel()

    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        return await running
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
