"""The system that pages talk of, on ports of its own: the demo target, a gateway, and a server of OpenAI's API that drafts; and a
folder that has what a checkout has, in which commands may write.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cactus_core.demo_pair import demo_model
from cloud.service import VerifierServer
from cluster.gateway import GatewayServer
from cluster.router import Router
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.link import Endpoint
from edge.serving.server import ApiServer
from tests.docs.pages import ROOT

DRAFT = Path(demo_model("draft"))


class Living:
    """`ports` are those that pages name, and what they are here."""

    def __init__(self) -> None:
        self.ports: dict[int, int] = {}
        self.is_up = threading.Event()
        self.is_over = asyncio.Event()

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            verifier = await stack.enter_async_context(VerifierServer(demo_model("target"), "127.0.0.1:0", memory_gib=0.2))
            await verifier.loaded()
            gateway = await stack.enter_async_context(GatewayServer("127.0.0.1:0", Router([f"127.0.0.1:{verifier.port}"])))
            await gateway.ready()
            endpoint = Endpoint(f"127.0.0.1:{gateway.port}")
            seats = [OnnxDrafter.load(DRAFT)]
            server = ApiServer(endpoint, "127.0.0.1:0", DRAFT, seats, name="target", chat_template="plain")
            await stack.enter_async_context(server.serving())
            edge = int(server.url.rpartition(":")[2])
            self.ports = {7800: gateway.port, 7802: gateway.port, 8000: edge, 8001: edge, 8002: edge}
            self.is_up.set()
            await self.is_over.wait()

    def here(self, text: str) -> str:
        for port, own in self.ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{own}")
        return text


@pytest.fixture(scope="session")
def living() -> Iterator[Living]:
    living, loop = Living(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(living.run(),))
    thread.start()
    assert living.is_up.wait(60)
    yield living
    loop.call_soon_threadsafe(living.is_over.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(DRAFT, folder / "models/demo/draft")
    (folder / "models/demo/target").symlink_to(demo_model("target"))
    for name in ("examples", "manifests", "docs"):
        (folder / name).symlink_to(ROOT / name)
    return folder
