"""The server as a whole: an endpoint, drafters, a socket, and what holds them.

Knows how the parts are put together and taken apart; knows nothing of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn

from cactus_core.errors import InvalidInput, Unavailable
from edge.completer import Completer
from edge.drafting.drafter import Drafter
from edge.link import Endpoint
from edge.serving.app import Serving, make_app
from edge.serving.chat_template import ChatTemplate
from edge.serving.metrics import Metrics
from edge.serving.seats import Seats
from edge.tokenizer import Tokenizer
from edge.tracing import Tracing, untraced

_GRACE_S = 2  # that answers under way have to end in, when the server is to stop


class ApiServer:
    """An OpenAI-compatible server on `listen`, `host:port` (port 0: any), before a verifier or gateway, whose `endpoint` is entered here.

    An async context: it serves while it is open. `folder` holds the tokenizer, and each of `drafters` serves one request at a time; None
    leaves decoding to the cloud. Raises `Unavailable` when the endpoint cannot be reached or the address cannot be had, `Mismatch` for
    another tokenizer than the target's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        listen: str,
        folder: Path,
        drafters: Sequence[Drafter | None],
        *,
        name: str | None = None,
        chat_template: str | None = None,
        tracing: Tracing = untraced,
    ) -> None:
        self._endpoint, self._listen, self._drafters, self._name = endpoint, listen, drafters, name
        self._tracing = tracing
        self._tokenizer = Tokenizer.load(folder)
        self._template = ChatTemplate.load(folder, chat_template)
        self.model = ""
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ApiServer]:
        """Serves meanwhile."""
        with _bound(self._listen) as bound:
            async with self._endpoint as endpoint:
                served = await Completer(endpoint, self._tokenizer, None).served()
                self.model = self._name or served.model
                host, port = bound.getsockname()[:2]
                self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                seats = Seats(endpoint, self._tokenizer, self._drafters, self._tracing)
                app = make_app(Serving(self.model, served, endpoint, self._tokenizer, self._template, seats, Metrics()))
                config = uvicorn.Config(
                    app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=_GRACE_S, loop="none"
                )
                self._server = _Uvicorn(config)
                running = asyncio.create_task(self._server.serve([bound]))
                try:
                    yield self
                finally:
                    seats.stopping.set()
                    self._server.should_exit = True
                    await running


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the command line, which ends every verb the same way."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _bound(listen: str) -> Iterator[socket.socket]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidInput(f"--listen takes host:port, such as 127.0.0.1:8000, not {listen!r}")
    host = host.strip("[]")
    try:
        bound = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512)
    except (OSError, OverflowError) as error:
        raise Unavailable(
            f"cannot listen on {listen}: it is in use or not an address of this machine; choose another with --listen"
        ) from error
    with contextlib.closing(bound):
        yield bound
