"""The Python API where asyncio runs: a client, and texts that stream from it with their tokens' origins.

Knows drafts by name and an endpoint by its address; the engine beneath is edge/completer.py, as for every verb.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict, Unpack

from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from edge.completer import Completer, Drafting
from edge.completion import Completion, Piece
from edge.credentials import Credentials
from edge.drafting.drafter import Drafter
from edge.exporting.checkpoint import locate
from edge.exporting.draft_folder import draft_folder
from edge.link import Endpoint
from edge.tokenizer import Tokenizer
from edge.tuning.forecasting import Objective

_SAMPLING, _ACCEPTANCE = SamplingParams(), Acceptance(COUPLED)


class Asked(TypedDict, total=False):
    """What `AsyncClient.stream` may be asked beside a prompt, for those that pass it on."""

    max_tokens: int
    sampling: SamplingParams
    acceptance: Acceptance
    seed: int | None
    stop_ids: Sequence[int]


class AsyncClient:
    """Completes texts at `addresses`, `host:port` of a gateway or a verifier and of others that stand in for it, drafting with `draft`; an
    async context.

    `draft` is a folder of `cactus export`, a checkpoint or a hub name; without one the cloud decodes alone, and `tokenizer` names a folder
    or a hub name of the target's. Without `credentials` the token, if any, is that of CACTUS_TOKEN. One text at a time: others wait.
    Raises `InvalidInput`, `Unsupported` or `Unavailable` where a draft cannot be had.
    """

    def __init__(
        self,
        *addresses: str,
        draft: str | Path | None = None,
        tokenizer: str | Path | None = None,
        objective: Objective = Objective.LATENCY,
        credentials: Credentials | None = None,
    ) -> None:
        if not addresses:
            raise TypeError("AsyncClient takes an address at the least")
        drafter: Drafter | None = None
        if draft is None:
            if tokenizer is None:
                raise TypeError("AsyncClient takes a draft, or a tokenizer for plain decoding")
            folder = locate(tokenizer)
        else:
            from edge.drafting.onnx_drafter import OnnxDrafter

            folder = draft_folder(draft)
            drafter = OnnxDrafter.load(folder)
        self._endpoint = Endpoint(*addresses, credentials=credentials)
        self._engine = Completer(self._endpoint, Tokenizer.load(folder), drafter, Drafting(objective=objective))
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._endpoint.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._endpoint.__aexit__(kind, error, trace)

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = 128,
        sampling: SamplingParams = _SAMPLING,
        acceptance: Acceptance = _ACCEPTANCE,
        seed: int | None = None,
        stop_ids: Sequence[int] = (),
    ) -> AsyncTextStream:
        """The text as it comes, token by token. The same seed draws the same coins; without one they are new."""
        completion = Completion(prompt)
        generating = self._engine.generate(
            completion,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=secrets.randbits(63) if seed is None else seed,
            acceptance=acceptance,
            stop_ids=tuple(stop_ids),
        )
        return AsyncTextStream(completion, self._in_turn(generating))

    async def complete(self, prompt: str, **asked: Unpack[Asked]) -> Completion:
        """The whole text, with its tokens, rounds and sums."""
        async with self.stream(prompt, **asked) as stream:
            async for _ in stream:
                pass
        return stream.completion

    async def _in_turn(self, generating: AsyncGenerator[object, None]) -> AsyncGenerator[Piece, None]:
        async with self._turn, aclosing(generating) as coming:
            async for piece in coming:
                if isinstance(piece, Piece):  # nothing is taken back: no draft writes on alone here
                    yield piece


class AsyncTextStream:
    """Pieces as they come: each a token with its origin and logprob, and the text that it completes. `completion` is what came so far.

    An async context: a stream that is left ends its request, up to the verifier. One that is read to its end needs no leaving.
    """

    def __init__(self, completion: Completion, pieces: AsyncGenerator[Piece, None]) -> None:
        self.completion = completion
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._pieces

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pieces.aclose()
