"""How our errors become gRPC statuses: the one place on the serving side."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import grpc.aio

from cactus_core.errors import CactusError, LimitExceeded

RETRY_AFTER = "retry-after-ms"  # trailing metadata: when there may be room again


@asynccontextmanager
async def errors_as_status(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Ends the call with the status and the one line of whatever `CactusError` is raised inside."""
    try:
        yield
    except CactusError as error:
        await abort(context, error)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: CactusError) -> NoReturn:
    """Ends the call with the status and the one line of `error`."""
    await context.abort(grpc.StatusCode[error.code], str(error), trailing_metadata=trailing(error))
    raise AssertionError("the status ended the call")


def trailing(error: CactusError) -> tuple[tuple[str, str], ...]:
    if isinstance(error, LimitExceeded) and error.retry_after_s is not None:
        return ((RETRY_AFTER, str(math.ceil(error.retry_after_s * 1e3))),)
    return ()
