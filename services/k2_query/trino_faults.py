"""What Trino and the way to it raise, as errors of K2 that name the cause and the next step.

Pure. Called by `k2_query.trino_client`. Messages hold Trino's address, which has no secret in it.
"""

from __future__ import annotations

import re
from typing import Final

import requests
from trino.exceptions import HttpError, TrinoConnectionError, TrinoQueryError

from k2_core.errors import (
    CatalogUnavailableError,
    EngineError,
    EngineUnavailableError,
    K2Error,
    QueryError,
    RetryableError,
    StorageUnavailableError,
)

FAULTS: Final = (HttpError, TrinoConnectionError, TrinoQueryError, requests.RequestException)
"""Everything that the client raises on an answer or on none."""

_NOT_SEEN: Final = frozenset({"CATALOG_NOT_FOUND", "SCHEMA_NOT_FOUND", "TABLE_NOT_FOUND", "MISSING_CATALOG_NAME"})
_TOO_LARGE: Final = frozenset(
    {"EXCEEDED_LOCAL_MEMORY_LIMIT", "EXCEEDED_GLOBAL_MEMORY_LIMIT", "CLUSTER_OUT_OF_MEMORY", "EXCEEDED_SPILL_LIMIT"}
    | {"EXCEEDED_SCAN_LIMIT", "EXCEEDED_CPU_LIMIT", "NUMERIC_VALUE_OUT_OF_RANGE"}
)
"""What less data in one question would have avoided. The last: a sum beyond 38 digits."""
_STOPPED: Final = frozenset({"USER_CANCELED", "ADMINISTRATIVELY_KILLED", "ABANDONED_QUERY"})
"""Somebody else's doing, though Trino counts it among the user's errors."""
_OUT_OF_TIME: Final = "EXCEEDED_TIME_LIMIT"
_NO_SNAPSHOT: Final = re.compile(r"snapshot ID does not exist", re.IGNORECASE)
_JDBC: Final = re.compile(r"jdbc:\S+")
"""A catalog's address, in which somebody may have put a password."""
_REFUSED: Final = {"401": "the credentials refused", "403": "access refused"}
_STATUS: Final = re.compile(r"error (\d{3})")
_LONGEST: Final = 300


def fault(error: Exception, url: str) -> K2Error:
    """Return what a failed question means.

    Args:
        error: One of `FAULTS`.
        url: Trino's address.
    """
    if isinstance(error, TrinoQueryError):
        return _of_query(error, url)
    if isinstance(error, HttpError):
        return _of_status(str(error), url)
    return _of_connection(error, url)


def _of_query(error: TrinoQueryError, url: str) -> K2Error:
    name, kind, said = error.error_name or "", error.error_type or "", _short(error.message)
    where = f"Trino at {url}"
    found: K2Error
    if name in _NOT_SEEN:
        see = "expected it to see the pipeline's table: compare its Iceberg catalog with the pipeline's, and its name"
        found = EngineError(f"{where}: found that {said}, {see} with spec.query.trino.catalog")
    elif name == "PERMISSION_DENIED":
        found = EngineError(f"{where}: found {said}, expected its user to have the right to read the pipeline's tables")
    elif name in _TOO_LARGE:
        found = QueryError("end", f"found a window too large to answer ({said}), expected less")
    elif name == _OUT_OF_TIME:
        found = RetryableError(f"query: found no end in time ({said}), expected one; ask for less")
    elif _NO_SNAPSHOT.search(said):
        found = EngineUnavailableError(f"{where}: found {said}, expected the pinned one; it has expired: ask again")
    elif name == "ICEBERG_COMMIT_ERROR":
        found = EngineUnavailableError(f"{where}: found another commit in between ({said}), expected none; retry")
    elif name == "ICEBERG_CATALOG_ERROR" or _JDBC.search(said):
        found = CatalogUnavailableError(f"catalog: {where} found {said}, expected it to reach the pipeline's catalog")
    elif kind == "EXTERNAL":
        found = StorageUnavailableError(
            f"warehouse: {where} found {said}, expected the table's files to be readable for it"
        )
    elif kind == "USER_ERROR" and name not in _STOPPED:
        found = EngineError(f"{where}: found {name} ({said}), expected it to take K2's queries; check its version")
    else:
        found = EngineUnavailableError(f"{where}: found {name} ({said}), expected an answer; retry")
    return found


def _of_status(said: str, url: str) -> K2Error:
    match = _STATUS.search(said)
    if match and match[1] in _REFUSED:
        return EngineError(
            f"Trino at {url}: found {_REFUSED[match[1]]} (HTTP {match[1]}), expected them to open it; check user and "
            "secret of spec.query.trino"
        )
    return EngineUnavailableError(f"Trino at {url}: found {_short(said)}, expected an answer; retry")


def _of_connection(error: Exception, url: str) -> K2Error:
    said = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return EngineError(
            f"Trino at {url}: found a certificate that no known authority signed for this name, expected one; "
            "give its authority in spec.query.trino.caSecret"
        )
    cause = "no answer in time" if "timed out" in said.lower() else f"no connection ({_last_words(said)})"
    return EngineUnavailableError(
        f"Trino at {url}: found {cause}, expected an answer; check that it runs and that spec.query.trino.url is its "
        "address"
    )


def _last_words(said: str) -> str:
    """Return the system's own words at the end of a chain of libraries' words."""
    found = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", said)
    return found[1] if found else _short(said)


def _short(said: str) -> str:
    text = _JDBC.sub("jdbc:...", " ".join(said.split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
