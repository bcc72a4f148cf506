"""Every error that a user of Cactus can meet, in one tree.

    CactusError                 something a person can act on; `code` is the gRPC status it travels as
    ├── InvalidInput            what was sent does not hold together                     INVALID_ARGUMENT
    ├── Mismatch                both sides are well, but do not belong together          FAILED_PRECONDITION
    ├── Damaged                 a frame did not come as it was sent                      DATA_LOSS
    ├── StaleBase               the block starts where the text no longer ends           ABORTED
    ├── Unauthenticated         nobody knows who calls                                   UNAUTHENTICATED
    ├── LimitExceeded           the request, the caller's quota or the system is full    RESOURCE_EXHAUSTED
    ├── Unavailable             the other side cannot be reached, or is not ready        UNAVAILABLE
    └── Unsupported             a model, rule or parameter that Cactus does not handle   UNIMPLEMENTED

Each message is one line that says what to do. Errors are picklable, so that they survive a trip between Ray processes.
Knows nothing of gRPC: the edge and the cloud map `code` to a status at their border.
"""

from __future__ import annotations

from typing import ClassVar


class CactusError(Exception):
    """The root. `str(error)` is one line for a person: what is wrong and what to do."""

    code: ClassVar[str] = "INTERNAL"


class InvalidInput(CactusError):
    code: ClassVar[str] = "INVALID_ARGUMENT"


class Mismatch(CactusError):
    code: ClassVar[str] = "FAILED_PRECONDITION"


class Damaged(CactusError):
    """The stream is over; the request goes on over another."""

    code: ClassVar[str] = "DATA_LOSS"


class StaleBase(CactusError):
    code: ClassVar[str] = "ABORTED"


class Unauthenticated(CactusError):
    code: ClassVar[str] = "UNAUTHENTICATED"


class LimitExceeded(CactusError):
    """`retry_after_s` is when there may be room again; None where asking again would not help."""

    code: ClassVar[str] = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(CactusError):
    code: ClassVar[str] = "UNAVAILABLE"


class Unsupported(CactusError):
    code: ClassVar[str] = "UNIMPLEMENTED"


def error_for(code: str, message: str, retry_after_s: float | None = None) -> CactusError:
    """The error that travelled as this gRPC status name; the root for a status that none of ours uses."""
    if code == LimitExceeded.code:
        return LimitExceeded(message, retry_after_s)
    for kind in CactusError.__subclasses__():
        if kind.code == code:
            return kind(message)
    return CactusError(f"{code}: {message}")
