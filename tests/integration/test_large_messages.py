"""A message that no server takes: its sender is told at once, by one status, and whoever is served beside is served on."""

import asyncio
import threading

import grpc
import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.errors import LimitExceeded
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cactus_core.session import Limits, Request
from cloud.serving import SERVICE
from edge.completer import Completer
from edge.completion import Completion
from tests.integration.conftest import system


def ending_of(address, message):
    """Of a stream that says that. In a thread: gRPC's asyncio tells that a write failed, in place of the status that came."""
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(f"/{SERVICE}/Speculate")(iter([message]), timeout=60)
        with pytest.raises(grpc.RpcError):
            next(call)
        return call.code(), call.details()


async def text_of(endpoint, pair, stop=None):
    """Of texts, one after the other until `stop`, the last, which all the others are."""
    texts = set()
    while not texts or (stop is not None and not stop.is_set()):
        completion = Completion("w5 w2")
        settings = {"max_tokens": 24, "sampling": SamplingParams(0.8), "seed": 1, "acceptance": Acceptance(COUPLED)}
        async for _ in Completer(endpoint, pair.tokenizer(), pair.drafter()).generate(completion, **settings):
            pass
        texts.add(tuple(token.id for token in completion.tokens))
        assert completion.summary.num_resumes == 0
    [text] = texts
    return text


@pytest.mark.parametrize("num_bytes", [2 << 20, pytest.param(1 << 30, marks=pytest.mark.slow)], ids=["2 MiB", "1 GiB"])
async def test_a_message_over_the_limit_gets_one_status_and_others_go_on(small_pair, num_bytes):
    async with system(small_pair.target) as endpoint:
        alone, sent = await text_of(endpoint, small_pair), threading.Event()
        beside = asyncio.create_task(text_of(endpoint, small_pair, sent))
        try:
            code, details = await asyncio.to_thread(ending_of, endpoint.address, bytes(num_bytes))
        finally:
            sent.set()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"{num_bytes} vs. {Limits().max_frame_bytes}" in details
        assert await beside == alone


async def test_an_edge_says_so_before_it_sends(small_pair):
    async with system(small_pair.target) as endpoint:
        request = Request((1,) * (1 << 20), 4, 1, small_pair.tokenizer().fingerprint)
        with pytest.raises(LimitExceeded, match="shorten the prompt"):
            async with endpoint.open(request):
                pass
        assert await text_of(endpoint, small_pair)
