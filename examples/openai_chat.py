"""A chat, with what speculation brought beside it:  python examples/openai_chat.py [base URL of `cactus serve`]"""

import sys

from openai import OpenAI

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
with OpenAI(base_url=url, api_key="none") as client:
    done = client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": "Write a queue in Python."}],
        max_completion_tokens=64,
        extra_body={"speculation": {"objective": "cost"}},
    )
print(done.choices[0].message.content)
print((done.model_extra or {})["metrics"])
