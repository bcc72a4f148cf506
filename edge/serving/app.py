"""The routes.

Knows paths and who serves them; knows nothing of sockets, nor of how text is made.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cactus_core.errors import CactusError
from cactus_core.session import Served
from edge.link import Endpoint
from edge.serving import asking
from edge.serving.answer import Answer, Wanted
from edge.serving.chat import ChatShape
from edge.serving.chat_template import ChatTemplate
from edge.serving.completions import CompletionShape
from edge.serving.errors import ApiError, invalid, unknown_model
from edge.serving.metrics import Metrics
from edge.serving.playground import add_playground
from edge.serving.schema import Asked, ChatRequest, CompletionRequest
from edge.serving.seats import Seats
from edge.tokenizer import Tokenizer

_REFUSED = frozenset({*CompletionRequest.REFUSED, *ChatRequest.REFUSED})


@dataclass(frozen=True, slots=True)
class Serving:
    """What the routes need: the model as callers name it, and the parts that serve it."""

    model: str
    served: Served
    endpoint: Endpoint
    tokenizer: Tokenizer
    template: ChatTemplate
    seats: Seats
    metrics: Metrics


def make_app(serving: Serving) -> FastAPI:
    """An app that refuses in OpenAI's shape, whatever it refuses."""
    app = FastAPI(title="Cactus", docs_url=None, redoc_url=None)  # whose pages load from elsewhere
    card = {"id": serving.model, "object": "model", "created": int(time.time()), "owned_by": "cactus"}
    card["max_model_len"] = serving.served.max_positions

    @app.post("/v1/completions", response_class=Response)
    async def completions(asked: CompletionRequest) -> Response:
        _check_model(asked, serving)
        choices = asking.of_completion(asked, serving.tokenizer, serving.served)
        return Answer(serving.model, choices, CompletionShape(serving.tokenizer), _wanted(asked), serving.seats, serving.metrics)

    @app.post("/v1/chat/completions", response_class=Response)
    async def chat(asked: ChatRequest) -> Response:
        _check_model(asked, serving)
        choices = asking.of_chat(asked, serving.template, serving.tokenizer, serving.served)
        return Answer(serving.model, choices, ChatShape(serving.tokenizer), _wanted(asked), serving.seats, serving.metrics)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name != serving.model:
            raise unknown_model(name, serving.model)
        return card

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """200 while the cloud can be reached, else 503."""
        await serving.endpoint.describe()
        return {"status": "ok", "model": serving.model, "requests": serving.seats.num_requests, "most_requests": serving.seats.num}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(serving.metrics.text(), media_type=serving.metrics.content_type)

    add_playground(app)

    def refused(request: Request, error: Exception) -> JSONResponse:
        api_error = invalid(error.errors(), _REFUSED) if isinstance(error, RequestValidationError) else _api_error(error)
        if request.method == "POST":
            serving.metrics.requests.labels(request.url.path if api_error.code != _NO_ROUTE else "", str(api_error.status)).inc()
        return api_error.response()

    for kind in (RequestValidationError, ApiError, CactusError, HTTPException):
        app.add_exception_handler(kind, refused)
    return app


_NO_ROUTE = "no_such_route"


def _api_error(error: Exception) -> ApiError:
    if isinstance(error, HTTPException):
        return ApiError(f"{error.detail}: see /openapi.json for what is served here", status=error.status_code, code=_NO_ROUTE)
    return ApiError.of(error)


def _check_model(asked: Asked, serving: Serving) -> None:
    if asked.model != serving.model:
        raise unknown_model(asked.model, serving.model)


def _wanted(asked: Asked) -> Wanted:
    return Wanted(asked.stream, asked.includes_usage, asked.speculation.trace, asked.speculation.ledger)
