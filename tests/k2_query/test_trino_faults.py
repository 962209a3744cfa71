"""What Trino raises, in K2's words; that it does raise it is in test_trino_client.py and test_engine_contract.py."""

from __future__ import annotations

import pytest
import requests
from trino.exceptions import Http503Error, HttpError, TrinoConnectionError, TrinoQueryError

from k2_core.errors import (
    CatalogUnavailableError,
    EngineError,
    EngineUnavailableError,
    K2Error,
    QueryError,
    RetryableError,
    StorageUnavailableError,
)
from k2_query.trino_faults import fault

URL = "https://trino:8443"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("CATALOG_NOT_FOUND", "USER_ERROR", EngineError),
        ("SCHEMA_NOT_FOUND", "USER_ERROR", EngineError),
        ("TABLE_NOT_FOUND", "USER_ERROR", EngineError),
        ("PERMISSION_DENIED", "USER_ERROR", EngineError),
        ("SYNTAX_ERROR", "USER_ERROR", EngineError),
        ("EXCEEDED_LOCAL_MEMORY_LIMIT", "INSUFFICIENT_RESOURCES", QueryError),
        ("EXCEEDED_GLOBAL_MEMORY_LIMIT", "INSUFFICIENT_RESOURCES", QueryError),
        ("NUMERIC_VALUE_OUT_OF_RANGE", "USER_ERROR", QueryError),
        ("EXCEEDED_TIME_LIMIT", "INSUFFICIENT_RESOURCES", RetryableError),
        ("QUERY_QUEUE_FULL", "INSUFFICIENT_RESOURCES", EngineUnavailableError),
        ("USER_CANCELED", "USER_ERROR", EngineUnavailableError),
        ("ADMINISTRATIVELY_KILLED", "USER_ERROR", EngineUnavailableError),
        ("NO_NODES_AVAILABLE", "INTERNAL_ERROR", EngineUnavailableError),
        ("REMOTE_TASK_ERROR", "INTERNAL_ERROR", EngineUnavailableError),
        ("ICEBERG_COMMIT_ERROR", "EXTERNAL", EngineUnavailableError),
        ("ICEBERG_CATALOG_ERROR", "EXTERNAL", CatalogUnavailableError),
        ("ICEBERG_CANNOT_OPEN_SPLIT", "EXTERNAL", StorageUnavailableError),
    ],
)
def test_a_failed_query_is_told_by_its_name(name: str, kind: str, expected: type[K2Error]) -> None:
    error = fault(TrinoQueryError({"errorName": name, "errorType": kind, "message": "line 1:8:  it\nsays so"}), URL)
    assert type(error) is expected
    assert "line 1:8: it says so" in str(error)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        (
            "TABLE_NOT_FOUND",
            "compare its Iceberg catalog with the pipeline's, and its name with spec.query.trino.catalog",
        ),
        ("PERMISSION_DENIED", "expected its user to have the right to read the pipeline's tables"),
        ("SYNTAX_ERROR", "check its version"),
    ],
)
def test_a_refusal_names_the_address_and_the_next_step(name: str, step: str) -> None:
    said = str(fault(TrinoQueryError({"errorName": name, "errorType": "USER_ERROR", "message": "no"}), URL))
    assert said.startswith(f"Trino at {URL}: found ")
    assert step in said


def test_a_snapshot_that_expired_can_be_asked_for_again() -> None:
    told = {
        "errorName": "INVALID_ARGUMENTS",
        "errorType": "USER_ERROR",
        "message": "Iceberg snapshot ID does not exists: 5",
    }
    error = fault(TrinoQueryError(told), URL)
    assert type(error) is EngineUnavailableError
    assert "expected the pinned one; it has expired: ask again" in str(error)


def test_a_catalog_s_address_is_not_shown() -> None:
    said = "Failed to connect: jdbc:postgresql://k2:hush@db/k2?x=1 (timeout)"
    told = {"errorName": "GENERIC_INTERNAL_ERROR", "errorType": "INTERNAL_ERROR", "message": said}
    error = fault(TrinoQueryError(told), URL)
    assert type(error) is CatalogUnavailableError
    assert "found Failed to connect: jdbc:... (timeout), expected" in str(error)


def test_an_error_without_a_name_is_one_still() -> None:
    assert type(fault(TrinoQueryError({"message": "x" * 1000}), URL)) is EngineUnavailableError
    assert len(str(fault(TrinoQueryError({"message": "x" * 1000}), URL))) < 450


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (HttpError("error 401: b'Access Denied'"), EngineError, "the credentials refused (HTTP 401)"),
        (HttpError("error 403"), EngineError, "access refused (HTTP 403)"),
        (HttpError("error 404: b'nothing here'"), EngineUnavailableError, "found error 404"),
        (Http503Error("error 503: service unavailable"), EngineUnavailableError, "service unavailable"),
    ],
    ids=["401", "403", "404", "503"],
)
def test_a_refused_request_is_told_by_its_status(error: HttpError, expected: type[K2Error], words: str) -> None:
    found = fault(error, URL)
    assert type(found) is expected
    assert words in str(found)


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (
            requests.ConnectionError("x: [Errno 111] Connection refused'))"),
            EngineUnavailableError,
            "(Connection refused)",
        ),
        (TrinoConnectionError("failed to fetch: Read timed out."), EngineUnavailableError, "found no answer in time"),
        (requests.ConnectionError("closed"), EngineUnavailableError, "found no connection (closed)"),
        (requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED]"), EngineError, "spec.query.trino.caSecret"),
    ],
    ids=["refused", "silent", "closed", "certificate"],
)
def test_a_connection_that_fails_is_told_by_its_cause(error: Exception, expected: type[K2Error], words: str) -> None:
    found = fault(error, URL)
    assert type(found) is expected
    assert words in str(found)
