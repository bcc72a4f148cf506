"""The official client, and curl, against a real server before a real verifier."""

import asyncio
import json
import subprocess

import httpx
import openai
import pytest

from tests.edge.serving.conftest import PARALLEL

PROMPT = "class Queue:\n    def __init__(self"
GREEDY = {"model": "demo", "prompt": PROMPT, "max_tokens": 40, "temperature": 0}
ENDLESS = {"model": "demo", "prompt": PROMPT, "max_tokens": 1500, "logit_bias": {"0": -100}}  # the token that ends texts


def streamed(stream):
    return "".join(choice.text for chunk in stream for choice in chunk.choices)


def test_a_completion_is_the_same_streamed_and_whole_and_without_drafts(serving):
    whole = serving.client().completions.create(**GREEDY)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 40
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 40
    assert streamed(serving.client().completions.create(**GREEDY, stream=True)) == whole.choices[0].text
    assert serving.client("plain").completions.create(**GREEDY).choices[0].text == whole.choices[0].text


def test_the_same_seed_brings_the_same_text_and_another_another(serving):
    texts = [serving.client("plain").completions.create(**{**GREEDY, "temperature": 1, "seed": seed}).choices[0].text for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]


def test_usage_comes_in_a_last_chunk_where_it_is_asked_for(serving):
    chunks = list(serving.client().completions.create(**GREEDY, stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 40
    assert chunks[-2].choices[0].finish_reason == "length"


def test_a_chat_is_answered_by_the_assistant(serving):
    asked = {"model": "demo", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "temperature": 0}
    whole = serving.client().chat.completions.create(**asked, max_completion_tokens=12)
    assert whole.choices[0].message.role == "assistant"
    chunks = list(serving.client().chat.completions.create(**asked, max_tokens=12, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert whole.usage.completion_tokens == 12


def test_prompts_and_choices_come_in_their_order(serving):
    prompts = ["def main(", "import "]
    several = serving.client().completions.create(model="demo", prompt=prompts, n=2, max_tokens=8, seed=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    ids = [[1, 2, 3], [4, 5]]
    assert len(serving.client().completions.create(model="demo", prompt=ids, max_tokens=4).choices) == 2
    stream = serving.client().completions.create(model="demo", prompt=prompts, n=2, max_tokens=8, seed=3, stream=True)
    ends = [choice.index for chunk in stream for choice in chunk.choices if choice.finish_reason]
    assert sorted(ends) == [0, 1, 2, 3]


def test_logprobs_stand_beside_each_token(serving):
    done = serving.client().completions.create(**{**GREEDY, "temperature": 1, "seed": 2, "logprobs": 3})
    columns = done.choices[0].logprobs
    assert "".join(columns.tokens) == done.choices[0].text
    assert columns.text_offset == [len("".join(columns.tokens[:place])) for place in range(40)]
    assert all(len(tops) == 3 for tops in columns.top_logprobs)
    assert all(logprob <= 0 for logprob in columns.token_logprobs)
    chunks = list(serving.client().completions.create(**{**GREEDY, "temperature": 1, "seed": 2, "logprobs": 3}, stream=True))
    assert [token for chunk in chunks for token in chunk.choices[0].logprobs.tokens] == columns.tokens


def test_logprobs_of_a_chat_have_the_bytes_of_each_token(serving):
    asked = {"model": "demo", "messages": [{"role": "user", "content": "Grüße ✓"}], "seed": 4, "max_tokens": 20}
    done = serving.client().chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0]
    assert b"".join(bytes(one.bytes) for one in done.logprobs.content).decode() == done.message.content
    assert all(len(one.top_logprobs) == 2 for one in done.logprobs.content)


def test_a_stop_string_across_tokens_ends_the_text_and_is_never_shown(serving):
    client = serving.client()
    whole = client.completions.create(**GREEDY, logprobs=0).choices[0]
    tokens = whole.logprobs.tokens
    border = len("".join(tokens[:10]))
    stop = whole.text[border - 2 : border + 2]
    before = whole.text[: whole.text.index(stop)]
    stopped = client.completions.create(**GREEDY, stop=["never written", stop])
    assert (stopped.choices[0].text, stopped.choices[0].finish_reason) == (before, "stop")
    assert stopped.usage.completion_tokens < 40
    chunks = list(client.completions.create(**GREEDY, stop=stop, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == before
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_what_speculation_brought_is_told(serving):
    body = {"speculation": {"delta": 0.05, "budget": 1.0, "ledger": True, "trace": True}}
    done = serving.client().completions.create(**{**GREEDY, "temperature": 1, "seed": 1}, extra_body=body)
    figures = done.metrics["speculative_decoding"]
    assert sum(figures["acceptance_histogram"]) == figures["num_spec_steps"] > 0
    assert figures["mean_acceptance_length"] == 1 + figures["num_accepted_draft_tokens"] / figures["num_spec_steps"]
    [record] = done.cactus["choices"]
    assert record["acceptance"]["label"] == "bounded"
    assert 0 < sum(record["ledger"]) <= 1.0
    assert len(record["ledger"]) == 40
    tokens = [token for round_ in done.cactus["trace"] for token in round_["tokens"]]
    assert "".join(token["text"] for token in tokens) == done.choices[0].text
    assert {token["origin"] for token in tokens} <= {"accepted", "corrected", "bonus", "decoded"}
    assert sum(token["origin"] == "accepted" for token in tokens) == figures["num_accepted_draft_tokens"]


def test_each_chunk_traces_its_round_where_that_is_asked_for(serving):
    chunks = list(serving.client().completions.create(**GREEDY, stream=True, extra_body={"speculation": {"trace": True}}))
    rounds = [chunk.cactus for chunk in chunks]
    assert "".join(token["text"] for one in rounds for token in one["tokens"]) == streamed(chunks)
    assert [one["round"]["at_ms"] for one in rounds] == sorted(one["round"]["at_ms"] for one in rounds)
    assert "choices" in rounds[-1]
    without = list(serving.client().completions.create(**GREEDY, stream=True, extra_body={"speculation": {"family": "none"}}))
    assert not hasattr(without[0], "cactus")
    assert not hasattr(without[-1], "metrics")


async def test_several_are_served_at_once_and_one_too_many_is_told_to_come_again(serving):
    async with serving.async_client() as client:
        streams = [await client.completions.create(**ENDLESS, stream=True) for _ in range(PARALLEL)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.completions.create(**GREEDY)
        assert refused.value.response.headers["Retry-After"] == "1"
        assert refused.value.code == "rate_limit_exceeded"
        for stream in streams:
            await stream.close()


def test_a_stream_that_its_caller_leaves_ends_at_the_verifier(serving):
    for name in ("drafting", "plain"):
        with serving.client(name).completions.create(**ENDLESS, stream=True) as stream:
            for _ in range(3):
                next(stream)


async def test_a_caller_that_waits_no_longer_ends_its_request_at_the_verifier(serving):
    async with serving.async_client() as client:
        waiting = asyncio.create_task(client.completions.create(**ENDLESS, n=3))
        async with asyncio.timeout(20):
            while not serving.engine._waiting.streams:  # noqa: ASYNC110  # the engine tells nobody
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def test_a_caller_who_leaves_while_a_block_is_drafted_leaves_the_drafter_to_the_next(serving):
    in_rows = {"extra_body": {"speculation": {"family": "rejection"}}}
    for _ in range(2 * PARALLEL):
        with serving.client().completions.create(**ENDLESS, **in_rows, stream=True) as stream:
            next(stream)
    done = serving.client().completions.create(**GREEDY, **in_rows)
    assert done.cactus["choices"][0]["drafter_error"] == ""


def test_models_health_and_metrics_are_told(serving):
    assert [model.id for model in serving.client().models.list()] == ["demo"]
    assert serving.client().models.retrieve("demo").owned_by == "cactus"
    serving.client().completions.create(**GREEDY)
    lines = httpx.get(f"{serving.drafting}/metrics").text.splitlines()
    assert any(line.startswith('cactus_edge_tokens_total{origin="accepted"}') for line in lines)
    assert any(line.startswith('cactus_edge_requests_total{route="/v1/completions",status="200"}') for line in lines)


def test_curl_streams_events(serving):
    body = json.dumps({**GREEDY, "stream": True})
    command = ["curl", "-sN", f"{serving.drafting}/v1/completions", "-H", "Content-Type: application/json", "-d", body]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(line.removeprefix("data: "))["object"] == "text_completion" for line in lines[:-2])
