"""What is logged of requests, and the id by which edge, gateway and verifier all call one: it travels beside its frames, in the metadata.

A line tells what a request took and how it ended, never what it said, nor who proved to be who by which secret.
Knows logging and ids; knows nothing of what is logged.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from enum import StrEnum
from typing import Any

KEY = "cactus-request"  # metadata in which a caller tells the id
REQUEST: ContextVar[str] = ContextVar("cactus_request", default="")  # the id of whom the task that runs serves
_PACKAGES = ("cactus_core", "edge", "cloud", "cluster")
_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def new_request_id() -> str:
    return secrets.token_hex(8)


def request_id_in(metadata: Iterable[Any] | None) -> str:
    """What the caller says, or a new one where it says none that could be printed."""
    for key, value in metadata or ():
        if key == KEY and isinstance(value, str) and _ID.fullmatch(value):
            return value
    return new_request_id()


def facts(**told: str | float | None) -> dict[str, dict[str, str | float | None]]:
    """For `extra=` of a line: what it tells beside its message, by name."""
    return {"facts": told}


def log_requests(style: LogFormat | None) -> None:
    """From now on our packages log to standard error, a line a request among them. None: as before, warnings alone."""
    if style is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if style is LogFormat.JSON else TextLines())
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)


class JsonLines(logging.Formatter):
    """One object a line: `time` (UTC), `level`, `part`, `message`, `request` where it is of one, and the line's own facts."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "part": record.name,
            "message": record.getMessage(),
        }
        told = _facts(record)
        if request := told.pop("request", None) or REQUEST.get():
            line["request"] = request
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | told, ensure_ascii=False)


class TextLines(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        told = _facts(record)
        request = told.pop("request", None) or REQUEST.get()
        parts = [_time(record), record.levelname.lower(), record.name, *([f"[{request}]"] if request else []), record.getMessage()]
        parts += [
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in told.items() if value is not None
        ]
        if record.exc_info:
            parts.append("\n" + self.formatException(record.exc_info))
        return " ".join(parts)


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{record.msecs:03.0f}Z"


def _facts(record: logging.LogRecord) -> dict[str, object]:
    told: Mapping[str, object] = getattr(record, "facts", {})
    return dict(told)
