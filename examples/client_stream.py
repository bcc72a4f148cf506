"""A text that streams, each token with where it came from:  python examples/client_stream.py [host:port of `cactus up`]"""

import sys

from edge import Client, Origin, SamplingParams

MARKS = {Origin.ACCEPTED: "", Origin.CORRECTED: "~", Origin.BONUS: "+", Origin.DECODED: "·"}

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7800"
with Client(address, draft="models/demo/draft") as client:
    stream = client.stream("class Queue:\n    def __init__(self", max_tokens=64, sampling=SamplingParams(temperature=0.7))
    for piece in stream:
        print(MARKS[piece.token.origin] + piece.text, end="", flush=True)
summary = stream.completion.summary
print(f"\n{summary.num_tokens} tokens in {summary.num_rounds} rounds; no mark: drafted here, ~ corrected, + bonus, · decoded by the cloud")
