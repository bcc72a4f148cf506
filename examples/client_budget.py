"""A text within a divergence budget, and what it spent:  python examples/client_budget.py [host:port of `cactus up`]"""

import asyncio
import sys

from edge import Acceptance, AsyncClient

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7800"


async def main() -> None:
    within = Acceptance(relaxation="certified", strength=0.05, budget=2.0)
    async with AsyncClient(ADDRESS, draft="models/demo/draft") as client:
        completion = await client.complete("def main(", max_tokens=64, acceptance=within)
    print(completion.text)
    print(f"{completion.summary.divergence:.2f} of {within.budget} nats spent, {completion.summary.tokens_per_round:.1f} tokens a round")


asyncio.run(main())
