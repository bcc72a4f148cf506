"""Whatever is asked wrongly is refused in OpenAI's shape, and leaves nothing running."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import openai
import pytest

from cactus_core.demo_pair import demo_model
from cactus_core.errors import InvalidInput, Mismatch, Unavailable
from cloud.service import VerifierServer
from edge.link import Endpoint
from edge.serving.server import ApiServer
from tests.edge.serving.conftest import DRAFT
from tests.integration.conftest import make_model

COMPLETION = {"model": "demo", "prompt": "def main(", "max_tokens": 4}
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
REFUSED = [
    ({"model": "gpt-9"}, 404, "model_not_found", "model"),
    ({"model": None}, 400, None, "model"),
    ({"prompt": 5}, 400, None, "prompt"),
    ({"prompt": ""}, 400, None, "prompt"),
    ({"prompt": []}, 400, None, "prompt"),
    ({"prompt": [99999]}, 400, None, "prompt"),
    ({"prompt": "x " * 3000}, 400, "context_length_exceeded", "prompt"),
    ({"max_tokens": 5000}, 400, "context_length_exceeded", "prompt"),
    ({"max_tokens": 0}, 400, None, "max_tokens"),
    ({"max_tokens": "many"}, 400, None, "max_tokens"),
    ({"temperature": -1}, 400, None, "temperature"),
    ({"temperature": 1e-9}, 400, None, "temperature"),
    ({"top_p": 0}, 400, None, "top_p"),
    ({"n": 500}, 400, None, "n"),
    ({"logprobs": 30}, 400, None, "logprobs"),
    ({"logit_bias": {"x": 1}}, 400, None, "logit_bias"),
    ({"logit_bias": {"99999": 1}}, 400, None, "logit_bias"),
    ({"logit_bias": {"1": 101}}, 400, None, "logit_bias"),
    ({"stop": [""]}, 400, None, "stop.0"),
    ({"echo": True}, 400, "unsupported_parameter", "echo"),
    ({"suffix": "end"}, 400, "unsupported_parameter", "suffix"),
    ({"best_of": 3}, 400, "unsupported_parameter", "best_of"),
    ({"wisdom": 1}, 400, "unknown_parameter", "wisdom"),
    ({"speculation": {"rule": "wishful"}}, 400, "unsupported_value", "speculation"),
    ({"speculation": {"budget": 1.0}}, 400, None, "speculation"),
    ({"speculation": {"family": "coupled", "delta": 0.1}}, 400, None, "speculation"),
    ({"speculation": {"hope": True}}, 400, "unknown_parameter", "speculation.hope"),
]
REFUSED_CHATS = [
    ({"messages": []}, 400, None, "messages"),
    ({"messages": [{"role": "wizard", "content": "Hi"}]}, 400, None, "messages.0.role"),
    ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
    ({"response_format": {"type": "json_object"}}, 400, "unsupported_parameter", "response_format"),
    ({"top_logprobs": 2}, 400, None, None),
]


def refusal(url, path, body):
    answer = httpx.post(f"{url}/v1/{path}", json=body)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return answer.status_code, error["code"], error["param"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_bad_completion_is_refused_by_the_field_that_is_to_blame(serving, stream):
    told = [refusal(serving.drafting, "completions", {**COMPLETION, "stream": stream, **wrong}) for wrong, *_ in REFUSED]
    assert told == [tuple(expected) for _, *expected in REFUSED]


def test_a_bad_chat_is_refused_by_the_field_that_is_to_blame(serving):
    told = [refusal(serving.drafting, "chat/completions", {**CHAT, **wrong}) for wrong, *_ in REFUSED_CHATS]
    assert told == [tuple(expected) for _, *expected in REFUSED_CHATS]


def test_a_chat_without_a_template_is_told_what_to_do(serving):
    with pytest.raises(openai.BadRequestError, match="--chat-template"):
        serving.client("plain").chat.completions.create(**CHAT)


def test_no_json_and_no_route_are_refused_in_the_same_shape(serving):
    assert httpx.post(f"{serving.drafting}/v1/completions", content=b"{").json()["error"]["type"] == "invalid_request_error"
    answer = httpx.post(f"{serving.drafting}/v1/embeddings", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_route")


def test_fields_that_ask_for_nothing_are_let_pass(serving):
    nothing = {"echo": False, "best_of": 1, "suffix": None, "user": "me", "stop": None, "logit_bias": {}, "stream": False}
    serving.client().completions.create(**{**COMPLETION, **nothing})
    nothing = {"tools": [], "response_format": {"type": "text"}, "metadata": {"a": "b"}, "store": False}
    serving.client().chat.completions.create(**{**CHAT, **nothing})


async def test_a_cloud_that_is_gone_is_503():
    async with VerifierServer(demo_model("target"), "127.0.0.1:0", memory_gib=0.05) as verifier:
        await verifier.loaded()
        server = ApiServer(Endpoint(f"127.0.0.1:{verifier.port}"), "127.0.0.1:0", DRAFT, [None])
        serving = server.serving()
        await serving.__aenter__()
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{server.url}/v1/completions", json={**COMPLETION, "model": server.model}, timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert (await client.get(f"{server.url}/health", timeout=60)).status_code == 503
    await serving.__aexit__(None, None, None)


async def test_a_server_that_stops_tells_those_whom_it_serves(running):
    server = ApiServer(Endpoint(running.verifier), "127.0.0.1:0", DRAFT, [None], name="demo")
    endless = {**COMPLETION, "max_tokens": 1500, "logit_bias": {"0": -100}, "stream": True}
    async with httpx.AsyncClient(timeout=60) as client, AsyncExitStack() as stack:
        await stack.enter_async_context(server.serving())
        async with client.stream("POST", f"{server.url}/v1/completions", json=endless) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            stopping = asyncio.create_task(stack.aclose())
            told = [line async for line in lines if line]
            await stopping
    assert "stopping" in told[-2]
    assert told[-1] == "data: [DONE]"


async def test_a_server_that_cannot_start_says_why(running, tmp_path):
    taken = running.drafting.removeprefix("http://")
    make_model(tmp_path, 3, words="other")
    for address, listen, folder, error in (
        (running.verifier, taken, DRAFT, Unavailable),
        (running.verifier, "nowhere", DRAFT, InvalidInput),
        ("127.0.0.1:1", "127.0.0.1:0", DRAFT, Unavailable),
        (running.verifier, "127.0.0.1:0", tmp_path, Mismatch),
    ):
        with pytest.raises(error):
            async with ApiServer(Endpoint(address), listen, folder, [None]).serving():
                pass
