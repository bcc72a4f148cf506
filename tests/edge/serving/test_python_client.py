"""The Python API, and the examples that show it, against the real thing."""

import subprocess
import sys
from pathlib import Path

import pytest

from cactus_core.errors import InvalidInput
from edge import Acceptance, AsyncClient, Client, Credentials, Origin, SamplingParams
from tests.edge.serving.conftest import DRAFT

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
GREEDY = SamplingParams(temperature=0.0)


def test_a_text_streams_with_the_origin_of_each_token(serving):
    with Client(serving.verifier, draft=DRAFT) as client:
        with client.stream("class Queue:", max_tokens=120, sampling=GREEDY) as stream:
            pieces = list(stream)
        assert "".join(piece.text for piece in pieces) == stream.completion.text
        assert Origin.ACCEPTED in {piece.token.origin for piece in pieces}
        assert client.complete("class Queue:", max_tokens=120, sampling=GREEDY).text == stream.completion.text


def test_without_a_draft_the_cloud_decodes(serving):
    with Client(serving.verifier, tokenizer=DRAFT) as client:
        assert {token.origin for token in client.complete("import ", max_tokens=8).tokens} == {Origin.DECODED}
    with pytest.raises(TypeError, match="tokenizer"):
        Client(serving.verifier)


def test_a_stream_that_is_left_ends_and_the_next_begins(serving):
    endless = SamplingParams(logit_bias=((0, -100.0),))
    with Client(serving.verifier, draft=DRAFT) as client:
        for _ in range(2):
            with client.stream("class Queue:", max_tokens=1500, sampling=endless) as stream:
                next(iter(stream))
        assert client.complete("import ", max_tokens=4, acceptance=Acceptance(relaxation="certified", strength=0.1)).tokens
        with pytest.raises(InvalidInput):
            client.complete("import ", max_tokens=4, stop_ids=(-1,))


async def test_texts_of_one_asynchronous_client_take_turns(serving):
    import asyncio

    async with AsyncClient(serving.verifier, draft=DRAFT) as client:
        first, second = await asyncio.gather(*(client.complete("import ", max_tokens=12, sampling=GREEDY) for _ in range(2)))
        assert first.text == second.text
        async with client.stream("import ", max_tokens=1500) as stream:
            async for piece in stream:
                assert piece.token.logprob <= 0
                break


def test_another_address_stands_in_for_one_that_does_not_answer(serving):
    with Client("127.0.0.1:9", serving.verifier, tokenizer=DRAFT, credentials=Credentials()) as client:
        assert client.complete("import ", max_tokens=4).tokens
        with pytest.raises(TypeError, match="max_token"):
            client.complete("import ", max_token=4)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="address"):
        Client(tokenizer=DRAFT)


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.stem for example in EXAMPLES])
def test_the_example_runs(serving, example):
    addresses = {"client": serving.verifier, "openai": f"{serving.drafting}/v1"}
    command = [sys.executable, example, addresses[example.stem.split("_")[0]]]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
