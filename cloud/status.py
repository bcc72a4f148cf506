"""How our errors become gRPC statuses: the one place on the serving side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from cactus_core.errors import CactusError


@asynccontextmanager
async def errors_as_status(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Ends the call with the status and the one line of whatever `CactusError` is raised inside."""
    try:
        yield
    except CactusError as error:
        await context.abort(grpc.StatusCode[error.code], str(error))
