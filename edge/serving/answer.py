"""How a request is answered: as one body, or as a stream of events; and ended when its caller goes away.

Knows ASGI, and deltas as they come; knows nothing of what either endpoint calls things, which a `Shape` does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cactus_core.errors import Unavailable
from cactus_core.request_log import facts
from cactus_core.session import Finish
from edge.serving import report
from edge.serving.choice import Choice, Delta, Written
from edge.serving.choices import written
from edge.serving.errors import ApiError
from edge.serving.metrics import Metrics
from edge.serving.seats import Seats

_log = logging.getLogger(__name__)
_DONE = b"data: [DONE]\n\n"
_GONE = 499  # the status by which proxies log a caller that went away
_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class Shape(Protocol):
    """How an endpoint calls things: the prefix of ids, and the names of its two kinds of object."""

    prefix: str
    whole_name: str
    chunk_name: str

    def first(self, index: int) -> dict[str, Any] | None:
        """A choice's record that comes before its text in a stream, if there is one."""

    def part(self, choice: Choice, delta: Delta) -> dict[str, Any]:
        """A choice's record in a chunk."""

    def whole(self, choice: Choice, text: str, shown: Sequence[Written], finish: Finish | None) -> dict[str, Any]:
        """A choice's record in a response that is not streamed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of an answer, beside its text."""

    stream: bool
    usage: bool
    trace: bool
    ledger: bool


class Answer(Response):
    """Writes the choices when it is sent, and ends them, up to the verifier, when it cannot be."""

    def __init__(self, model: str, choices: Sequence[Choice], shape: Shape, wanted: Wanted, seats: Seats, metrics: Metrics) -> None:
        super().__init__()
        self._choices, self._shape, self._wanted, self._seats, self._metrics = choices, shape, wanted, seats, metrics
        self._envelope = {"id": f"{shape.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        for choice in choices:
            choice.completion.request_id = str(self._envelope["id"])
        self._has_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers; returns once nothing of the request is left running."""
        started = time.monotonic()
        serving = asyncio.create_task(self._serve(scope, receive, send))
        leaving, stopping = asyncio.create_task(_left(receive)), asyncio.create_task(self._seats.stopping.wait())
        status = _GONE
        try:
            await asyncio.wait({serving, leaving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (serving, leaving, stopping):
                task.cancel()
            done = await asyncio.gather(serving, leaving, stopping, return_exceptions=True)
            if isinstance(done[0], int):
                status = done[0]
            elif done[2] is True:
                status = await self._fail(
                    Unavailable("the server is stopping; send the request to another, or later"), scope, receive, send
                )
            self._metrics.requests.labels(scope["path"], str(status)).inc()
            self._log_end(scope["path"], status, time.monotonic() - started)

    def _log_end(self, path: str, status: int, took_s: float) -> None:
        done = [choice.completion.summary for choice in self._choices]
        sums = {"prompt_tokens": sum(len(choice.prompt) for choice in self._choices), "tokens": sum(each.num_tokens for each in done)}
        told = facts(request=str(self._envelope["id"]), path=path, status=status, seconds=round(took_s, 4), **sums)
        _log.info("answered", extra=told)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> int:
        try:
            with self._seats.admitted(), self._metrics.running.track_inprogress():
                try:
                    async with aclosing(written(self._choices, self._seats)) as deltas:
                        if self._wanted.stream:
                            await self._stream(deltas, send)
                        else:
                            await JSONResponse(await self._whole(deltas))(scope, receive, send)
                finally:
                    for choice in self._choices:
                        self._metrics.count(choice.completion, len(choice.prompt))
        except OSError:  # the caller went away as we wrote
            return _GONE
        except Exception as error:  # noqa: BLE001  # the caller is told, and the log
            return await self._fail(error, scope, receive, send)
        return 200

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> int:
        """Tells the caller, in the middle of a stream by an event; returns the status."""
        failed = ApiError.of(error)
        if failed.status >= 500:
            told = facts(request=str(self._envelope["id"]))
            _log.warning("a request failed: %s", error, exc_info=error if failed.status == 500 else None, extra=told)
        if self._has_begun:
            await send({"type": "http.response.body", "body": _event(failed.record()) + _DONE, "more_body": False})
        else:
            await failed.response()(scope, receive, send)
        return failed.status

    async def _stream(self, deltas: AsyncGenerator[Delta, None], send: Send) -> None:
        """Nothing is sent before the first token has come, so that what is wrong by then has its own status."""
        begun, num_left = set[int](), len(self._choices)
        async for delta in deltas:
            events = []
            if delta.index not in begun and (first := self._shape.first(delta.index)) is not None:
                events.append(self._chunk([first]))
            begun.add(delta.index)
            num_left -= delta.finish is not None
            ours = report.trace(delta) if self._wanted.trace else {}
            extras = self._extras(ours) if not num_left else {"cactus": ours} if ours else {}
            if delta.text or delta.shown or delta.finish or extras:
                events.append(self._chunk([self._shape.part(self._choices[delta.index], delta)], extras))
            await self._send(send, b"".join(_event(event) for event in events))
        if self._wanted.usage:
            await self._send(send, _event(self._chunk([], {"usage": report.usage(self._choices)})))
        await self._send(send, _DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, body: bytes) -> None:
        if not self._has_begun:
            self._has_begun = True
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})

    def _chunk(self, choices: list[dict[str, Any]], extension: dict[str, Any] | None = None) -> dict[str, Any]:
        usage = {"usage": None} if self._wanted.usage else {}
        return {**self._envelope, "object": self._shape.chunk_name, "choices": choices, **usage, **(extension or {})}

    async def _whole(self, deltas: AsyncGenerator[Delta, None]) -> dict[str, Any]:
        texts, shown, traces = [""] * len(self._choices), [list[Written]() for _ in self._choices], []
        finishes: list[Finish | None] = [None] * len(self._choices)
        async for delta in deltas:
            texts[delta.index] += delta.text
            shown[delta.index] += delta.shown
            finishes[delta.index] = delta.finish
            if self._wanted.trace:
                traces.append(report.trace(delta))
        parts = [self._shape.whole(*of) for of in zip(self._choices, texts, shown, finishes, strict=True)]
        extras = self._extras({"trace": traces} if self._wanted.trace else {})
        usage = report.usage(self._choices)
        return {**self._envelope, "object": self._shape.whole_name, "choices": parts, "usage": usage, **extras}

    def _extras(self, ours: dict[str, Any]) -> dict[str, Any]:
        """`metrics` are vLLM's, which has none of requests with several choices either."""
        records = [report.cactus(choice, ledger=self._wanted.ledger) for choice in self._choices]
        extras: dict[str, Any] = {"cactus": {**ours, "choices": records}}
        if len(self._choices) == 1 and self._choices[0].objective is not None:
            extras["metrics"] = {"speculative_decoding": report.speculative_decoding(self._choices[0].completion)}
        return extras


async def _left(receive: Receive) -> None:
    """Returns when the caller has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(record: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(record, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
