"""A load generator of the field, unchanged: LLMeter, over streaming chats."""

import json
import subprocess
import sys

import pytest

from tests.edge.serving.conftest import PARALLEL

LOAD = """
import asyncio, json, sys
from llmeter.endpoints.openai import OpenAICompletionStreamEndpoint
from llmeter.runner import Runner

endpoint = OpenAICompletionStreamEndpoint(model_id="demo", base_url=sys.argv[1], api_key="none")
payload = OpenAICompletionStreamEndpoint.create_payload("Write a queue.", max_tokens=24, logit_bias={"0": -100})
result = asyncio.run(Runner(endpoint).run(payload=payload, clients=int(sys.argv[2]), n_requests=4))
print(json.dumps([[one.error, one.num_tokens_output, one.time_to_first_token] for one in result.responses]))
"""


@pytest.mark.slow  # imports that take seconds
def test_llmeter_measures_every_request_of_as_many_clients_as_are_admitted(serving):
    pytest.importorskip("llmeter", reason="needs LLMeter: make test-all installs it")

    command = [sys.executable, "-c", LOAD, f"{serving.drafting}/v1", str(PARALLEL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    responses = json.loads(done.stdout.splitlines()[-1])
    assert len(responses) == 4 * PARALLEL
    assert {(error, num_tokens) for error, num_tokens, _ in responses} == {(None, 24)}
    assert all(first > 0 for *_, first in responses)
