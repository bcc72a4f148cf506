"""Work in a thread that ends with it.

Every thread that computes has torch's worker threads of its own, as long as it lives. Where there are more of them than cores, those
that wait sleep instead of spinning, whoever's they are, and an operation too small to notice that costs several times as long.
Knows threads; knows nothing of what is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_own_thread(call: Callable[[], T]) -> T:
    """What `call` returns or raises, computed in a thread that is over by then, and so are its workers."""
    with ThreadPoolExecutor(1) as own:
        return own.submit(call).result()
