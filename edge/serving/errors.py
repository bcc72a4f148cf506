"""Errors in OpenAI's shape, and the one place where ours become HTTP.

    InvalidInput     400 invalid_request_error
    Unsupported      400 invalid_request_error   unsupported_value
    LimitExceeded    429 rate_limit_error        rate_limit_exceeded   Retry-After
    Unavailable      503 service_unavailable     unavailable           Retry-After
    Mismatch         503 service_unavailable     mismatch              the cloud now serves another model than at the start
    whatever else    500 server_error

Knows statuses and shapes; knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

from cactus_core.errors import CactusError, InvalidInput, LimitExceeded, Mismatch, Unavailable, Unsupported

_RETRY_AFTER_S = "1"
_INVALID = "invalid_request_error"
# (status, type, code)
_KINDS: Mapping[type[CactusError], tuple[int, str, str | None]] = {
    InvalidInput: (400, _INVALID, None),
    Unsupported: (400, _INVALID, "unsupported_value"),
    LimitExceeded: (429, "rate_limit_error", "rate_limit_exceeded"),
    Unavailable: (503, "service_unavailable", "unavailable"),
    Mismatch: (503, "service_unavailable", "mismatch"),
}


class ApiError(Exception):
    """What a caller of the API is told; `param` is the field that is to blame, where one is."""

    def __init__(self, message: str, *, status: int = 400, kind: str = _INVALID, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.param = status, kind, code, param

    @classmethod
    def of(cls, error: Exception, param: str | None = None) -> ApiError:
        """What `error` is here; of an error that is not ours nothing is told but that it happened."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, CactusError):
            status, kind, code = next((known for of, known in _KINDS.items() if isinstance(error, of)), (500, "server_error", None))
            return cls(str(error), status=status, kind=kind, code=code, param=param)
        return cls("the server failed on this request; its log says more", status=500, kind="server_error")

    def record(self) -> dict[str, Any]:
        """The body, also of an error in the middle of a stream."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {"Retry-After": _RETRY_AFTER_S} if self.status in {429, 503} else None
        return JSONResponse(self.record(), self.status, headers)


def invalid(errors: Sequence[Any], refused: Container[str]) -> ApiError:
    """The first of pydantic's complaints about a body; `param` is where in it. `refused` fields are known, and not served."""
    first = errors[0]
    where = [str(part) for part in first["loc"] if part != "body"]
    # Of a union pydantic also names the member that it tried: "prompt.list[str]".
    param = ".".join(part for part in where if "[" not in part and part not in {"str", "int", "constrained-str"}) or None
    code, says = None, first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden" and param in refused:
        code, says = "unsupported_parameter", "this server does not serve it; leave it out"
    elif first["type"] == "extra_forbidden":
        code, says = "unknown_parameter", "no such parameter is known here; leave it out"
    return ApiError(f"{param}: {says}" if param else says, code=code, param=param)


def unknown_model(asked: str, served: str) -> ApiError:
    message = f"the model {asked!r} is not served here; this server has {served!r}"
    return ApiError(message, status=404, code="model_not_found", param="model")


def too_long(num_prompt: int, max_tokens: int, longest: int, param: str) -> ApiError:
    message = (
        f"the longest text here is {longest} tokens, and {num_prompt} of the prompt and {max_tokens} to come are more; "
        "shorten the prompt, or ask for fewer"
    )
    return ApiError(message, code="context_length_exceeded", param=param)


def busy(most: int) -> ApiError:
    message = f"{most} requests are being served, which is as many as this server takes; try again, or start it with a larger --parallel"
    return ApiError(message, status=429, kind="rate_limit_error", code="rate_limit_exceeded")
