"""The real thing on real sockets: the demo target behind a verifier, and before it two servers, one that drafts and one that does not.

All run in one thread's loop, so that the official client can be used as programs use it, with asyncio and without.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from cactus_core.demo_pair import demo_model
from cloud.engine import Engine
from cloud.service import VerifierServer
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.link import Endpoint
from edge.serving.server import ApiServer

DRAFT = Path(demo_model("draft"))
PARALLEL = 3


@dataclass
class Running:
    """`drafting` takes PARALLEL requests and has a plain chat template; `plain` leaves all to the cloud and has none."""

    verifier: str = ""
    drafting: str = ""
    plain: str = ""
    engine: Engine | None = None
    num_pages: int = 0
    is_up: threading.Event = field(default_factory=threading.Event)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            verifier = await stack.enter_async_context(VerifierServer(demo_model("target"), "127.0.0.1:0", memory_gib=0.2))
            await verifier.loaded()
            self.verifier, self.engine, self.num_pages = f"127.0.0.1:{verifier.port}", verifier.engine, verifier.engine.num_free_pages
            drafter = OnnxDrafter.load(DRAFT)
            drafters = [drafter, *(drafter.twin() for _ in range(PARALLEL - 1))]
            for name, seats, template in (("drafting", drafters, "plain"), ("plain", [None] * 8, None)):
                server = ApiServer(Endpoint(self.verifier), "127.0.0.1:0", DRAFT, seats, name="demo", chat_template=template)
                await stack.enter_async_context(server.serving())
                setattr(self, name, server.url)
            self.is_up.set()
            await self.is_over.wait()

    def client(self, name: str = "drafting") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{getattr(self, name)}/v1", api_key="none", max_retries=0, timeout=60)

    def async_client(self, name: str = "drafting") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{getattr(self, name)}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    running, loop = Running(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(running.run(),))
    thread.start()
    assert running.is_up.wait(60)
    yield running
    loop.call_soon_threadsafe(running.is_over.set)
    thread.join()
    loop.close()


@pytest.fixture
def serving(running: Running) -> Iterator[Running]:
    """The same for each test, after which nothing is left running, neither here nor at the verifier."""
    yield running
    assert_idle(running)


def assert_idle(running: Running) -> None:
    import httpx

    deadline = time.monotonic() + 20
    while True:
        busy = [httpx.get(f"{url}/health").json()["requests"] for url in (running.drafting, running.plain)]
        if running.engine.num_free_pages == running.num_pages and not any(busy) and not running.engine._waiting.streams:
            return
        assert time.monotonic() < deadline, f"still running: {busy}, {running.engine.num_free_pages} of {running.num_pages} pages free"
        time.sleep(0.02)
