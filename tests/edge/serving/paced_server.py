"""A server that streams at a set pace, whatever is asked, so that what is shown can be held against when it was sent.

Each token's text says when: the seconds since 1970 by this machine's clock, which the page's is too.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from edge.serving.playground import add_playground

PER_ROUND = 3
TOKENS_PER_LINE = 60  # about a paragraph
ROUND = {"draft_ms": 5, "wait_ms": 30, "queue_ms": 1, "verify_ms": 9, "num_drafted": 8, "length": 4, "num_accepted": PER_ROUND - 1}
FINAL = {"plan": {}, "bytes": {"up": 1, "down": 1}, "num_resumes": 0, "drafter_error": None}


def paced_app(num_before: int, num_paced: int, tokens_per_s: float) -> FastAPI:
    """`num_before` tokens at once, then `num_paced` at their pace, in rounds."""
    app = FastAPI()
    add_playground(app)

    @app.get("/health")
    async def health() -> dict[str, object]:
        return {"status": "ok", "model": "paced", "requests": 0, "most_requests": 2}

    @app.post("/v1/completions")
    async def completions() -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    async def events() -> AsyncIterator[str]:
        started = time.monotonic()
        for num in range(0, num_before + num_paced, PER_ROUND):
            due = started + max(num - num_before, 0) / tokens_per_s
            await asyncio.sleep(max(due - time.monotonic(), 0))
            text = f"{time.time():.4f}" + ("\n" if num % TOKENS_PER_LINE == 0 else " ")
            one = {"text": text, "id": 1, "origin": "accepted", "logprob": -1.0, "divergence": 0.0}
            yield event({"tokens": [one] * PER_ROUND, "round": ROUND | {"at_ms": 1e3 * (time.monotonic() - started)}})
        yield event({"choices": [FINAL]})
        yield "data: [DONE]\n\n"

    return app


def event(cactus: dict[str, object]) -> str:
    return f"data: {json.dumps({'choices': [], 'cactus': cactus})}\n\n"


@contextmanager
def paced_server(num_before: int, num_paced: int, tokens_per_s: float) -> Iterator[str]:
    """Its address."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        app = paced_app(num_before, num_paced, tokens_per_s)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
