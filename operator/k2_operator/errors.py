"""What the API server answers when it does not do what it was asked, as parts of K2's tree of errors.

Raised by `cluster` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from k2_core.errors import PermanentError, RetryableError


class ApiUnavailableError(RetryableError):
    """The API server did not answer, or said to come again."""


class ApiRefusedError(PermanentError):
    """The API server refused.

    Args:
        status: The HTTP status.
        message: In the API server's words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server refused with {status}: {message}")
        self.status = status


class GoneError(ApiRefusedError):
    """A watch asked for a version that is forgotten: list again."""


@dataclass(frozen=True, slots=True)
class FieldConflict:
    """A field that another manager owns.

    Args:
        manager: Its name.
        field: The path.
        declared: Whether it came by server-side apply: another tool's standing wish, not somebody's one-off edit.
    """

    manager: str
    field: str
    declared: bool


class FieldConflictError(ApiRefusedError):
    """Server-side apply found fields that others own.

    Args:
        message: In the API server's words.
        conflicts: All of them.
    """

    def __init__(self, message: str, conflicts: Sequence[FieldConflict]) -> None:
        super().__init__(409, message)
        self.conflicts = tuple(conflicts)
