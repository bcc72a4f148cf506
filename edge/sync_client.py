"""The Python API for programs without asyncio: the async client, in a thread of its own.

Knows threads; knows nothing of what travels.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

from edge.async_client import Asked, AsyncClient, AsyncTextStream
from edge.completion import Completion, Piece
from edge.credentials import Credentials
from edge.tuning.forecasting import Objective

T = TypeVar("T")


class Client:
    """As `AsyncClient`; a context. Threads may share it."""

    def __init__(
        self,
        *addresses: str,
        draft: str | Path | None = None,
        tokenizer: str | Path | None = None,
        objective: Objective = Objective.LATENCY,
        credentials: Credentials | None = None,
    ) -> None:
        self._client = AsyncClient(*addresses, draft=draft, tokenizer=tokenizer, objective=objective, credentials=credentials)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cactus-client", daemon=True)
        self._thread.start()
        self._run(self._client.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.__aexit__(None, None, None))
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stream(self, prompt: str, **asked: Unpack[Asked]) -> TextStream:
        """See `AsyncClient.stream`."""
        return TextStream(self, self._client.stream(prompt, **asked))

    def complete(self, prompt: str, **asked: Unpack[Asked]) -> Completion:
        """See `AsyncClient.complete`."""
        return self._run(self._client.complete(prompt, **asked))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """In the client's thread; an interrupted wait ends the work too."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


class TextStream:
    """As `AsyncTextStream`, for `for`; a context, and closed by itself at its end."""

    def __init__(self, client: Client, stream: AsyncTextStream) -> None:
        self._client, self._stream = client, stream
        self._pieces = stream.__aiter__()

    @property
    def completion(self) -> Completion:
        return self._stream.completion

    def __iter__(self) -> Iterator[Piece]:
        while (piece := self._client._run(self._next())) is not None:  # noqa: SLF001  # the client's other half
            yield piece

    async def _next(self) -> Piece | None:
        return await anext(self._pieces, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client._run(self._stream.__aexit__())  # noqa: SLF001  # as above
