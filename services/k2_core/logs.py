"""Logs as one JSON object a line on stderr, each with the correlation id of what it belongs to.

`configure` is called once, in a service's `__main__`. Messages carry no secrets: settings hold them as `SecretStr`.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

_correlation_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("k2_correlation_id", default=None)
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(service: str, level: str) -> None:
    """Send everything that is logged to stderr as JSON lines; a second call replaces the first.

    Args:
        service: In each line, such as `k2-sink`.
        level: The lowest level that is shown.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("pyiceberg.io").setLevel("WARNING")  # it says at each load which file system it took


def current_correlation_id() -> str | None:
    """Return the id of what this thread or task works for, or None."""
    return _correlation_id.get()


@contextlib.contextmanager
def correlation(correlation_id: str | None = None) -> Iterator[str]:
    """Tie what is logged inside to one id; a new random one unless given."""
    value = correlation_id or uuid.uuid4().hex
    token = _correlation_id.set(value)
    try:
        yield value
    finally:
        _correlation_id.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, service, logger, message, correlation id, and whatever `extra` holds."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (correlation_id := current_correlation_id()) is not None:
            line["correlation_id"] = correlation_id
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
