"""A process of a benchmark that does what it is asked over a pipe, so that each part of a system has an interpreter of its own.

Knows questions and answers; knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

_PATIENCE_S = 180.0

Answer = Callable[..., Awaitable[Any]]
Part = Callable[..., Coroutine[Any, Any, None]]  # what runs in the process: is given `serve` and the arguments of `servant`


class Servant:
    """The end of the pipe that asks. A question is the name of what to do, with arguments."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.greeting = self.answer()

    def ask(self, what: str, *arguments: Any) -> Any:
        self.begin(what, *arguments)
        return self.answer()

    def begin(self, what: str, *arguments: Any) -> None:
        """Asks; one `answer` is to follow."""
        self._pipe.send((what, arguments))

    def answer(self) -> Any:
        """Raises `TimeoutError`, or `EOFError` where the process has ended."""
        if not self._pipe.poll(_PATIENCE_S):
            raise TimeoutError("a part of the benchmark does not answer")
        return self._pipe.recv()


@contextmanager
def servant(part: Part, *arguments: Any) -> Iterator[Servant]:
    """A process that runs `part`, and ends with the context."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(there, part, arguments), daemon=True)
    process.start()
    there.close()  # so that its death is seen here
    try:
        yield Servant(here)
    finally:
        here.close()
        process.join()


def _run(parent: Connection, part: Part, arguments: tuple[Any, ...]) -> None:
    async def serve(greeting: Any, **answers: Answer) -> None:
        """Until the parent closes its end."""
        parent.send(greeting)
        while (question := await asyncio.to_thread(_question, parent)) is not None:
            what, details = question
            parent.send(await answers[what](*details))

    asyncio.run(part(serve, *arguments))


def _question(parent: Connection) -> Any:
    try:
        return parent.recv()
    except EOFError:
        return None
