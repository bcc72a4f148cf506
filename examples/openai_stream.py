"""The official client, unchanged:  python examples/openai_stream.py [base URL of `cactus serve`]"""

import sys

from openai import OpenAI

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
with OpenAI(base_url=url, api_key="none") as client:
    model = client.models.list().data[0].id
    for chunk in client.completions.create(model=model, prompt="class Queue:\n", max_tokens=64, temperature=0.7, stream=True):
        print(chunk.choices[0].text, end="", flush=True)
print()
