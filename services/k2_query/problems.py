"""Errors as problem documents (RFC 9457), the one place where K2's errors meet HTTP.

Each names what was found and what was expected; none shows a traceback, a path of this machine or a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from k2_core.errors import K2Error, QueryError, RetryableError

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
_SHOWN_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Args:
        status: HTTP's.
        kind: A stable word; the document's `type` is `urn:k2:problem:{kind}`.
        title: The same for all problems of a kind.
        detail: What was found and what was expected.
        more: Members beyond the standard's, such as `parameter`.
        headers: HTTP headers.
    """

    status: int
    kind: str
    title: str
    detail: str
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self, correlation_id: str | None) -> dict[str, Any]:
        """Return the body."""
        return {
            "type": f"urn:k2:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
            "correlation_id": correlation_id,
        }


UNAUTHORISED: Final = Problem(
    401,
    "unauthorised",
    "A valid API key is needed",
    "X-API-Key: found none that opens this service, expected id.secret",
    headers={"WWW-Authenticate": 'ApiKey realm="k2", header="X-API-Key"'},
)
INTERNAL: Final = Problem(
    500, "internal", "The service failed", "The log has the cause under this correlation id; please report it"
)
OVERLOADED: Final = Problem(
    503,
    "overloaded",
    "Too many queries at once",
    "found all places taken, expected a free one; retry",
    headers={"Retry-After": str(RETRY_AFTER_S)},
)


def of_error(error: K2Error) -> Problem:
    """Return the problem that an error of K2 is to a client."""
    if isinstance(error, QueryError):
        return invalid(error.parameter, None, error.detail)
    if isinstance(error, RetryableError):
        return Problem(503, "unavailable", "Not available now", str(error), headers={"Retry-After": str(RETRY_AFTER_S)})
    return Problem(503, "refused", "The table cannot be read as it is", str(error))


def of_status(status: int, path: str, method: str) -> Problem:
    """Return the problem of a route that does not exist, or not with this method."""
    if status == 404:
        return Problem(
            404, "unknown-path", "There is nothing here", f"found the path {path}, expected one of GET /docs"
        )
    return Problem(status, "refused-request", "The request was refused", f"found {method} {path}, expected GET")


def invalid(parameter: str, found: object, detail: str) -> Problem:
    """Return the problem of one request parameter."""
    more = {"parameter": parameter}
    if found is not None:
        more["found"] = shown(found)
    return Problem(400, "invalid-parameter", "A parameter cannot be used", f"{parameter}: {detail}", more)


def of_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """Return the problem of a request that its model refused: the first fault, and how many more there are."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    parameter = ".".join(str(part) for part in first["loc"][1:])
    message = str(first["msg"]).removeprefix("Value error, ")
    if not parameter:  # a check of several parameters: the message begins with the name of one
        parameter, _, detail = message.partition(": ")
        return invalid(parameter, None, detail + more)
    if first["type"] == "missing":
        return invalid(parameter, None, f"found nothing, expected a value{more}")
    return invalid(parameter, first["input"], f"found {shown(first['input'])}, expected {_expected(first)}{more}")


def _expected(error: Mapping[str, Any]) -> str:
    message = str(error["msg"])
    for prefix in ("Value error, expected ", "Value error, ", "Input should be ", "String should "):
        if message.startswith(prefix):
            return message.removeprefix(prefix)
    return message[:1].lower() + message[1:]


def shown(value: object) -> str:
    """Return a value as it is shown to people: quoted, not too long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
