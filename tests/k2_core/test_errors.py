"""The error tree: what may be retried and what may not, and what the messages hold."""

from __future__ import annotations

import inspect

import pytest

from k2_core import errors
from k2_core.errors import K2Error, PermanentError, QueryError, RecordError, RetryableError, SpecError

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, K2Error)]
LEAVES = [kind for kind in CLASSES if kind not in {K2Error, RetryableError, PermanentError}]


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_each_is_either_retryable_or_permanent(kind: type[K2Error]) -> None:
    assert issubclass(kind, RetryableError) is not issubclass(kind, PermanentError)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_tree_in_the_docstring_has_them_all(kind: type[K2Error]) -> None:
    assert f" {kind.__name__}" in (errors.__doc__ or "").replace("K2Error\n", " K2Error\n", 1)


def test_a_spec_error_says_where_found_and_expected() -> None:
    error = SpecError("spec.sink.replicas", "0", "1 or more")
    assert str(error) == "spec.sink.replicas: found 0, expected 1 or more"
    assert (error.path, error.found, error.expected) == ("spec.sink.replicas", "0", "1 or more")


def test_a_spec_error_of_the_whole_document() -> None:
    assert str(SpecError("", "a list", "a mapping")) == "document: found a list, expected a mapping"


def test_a_record_error_has_a_reason_for_metrics() -> None:
    error = RecordError("truncated", "found 3 bytes, expected 5")
    assert (str(error), error.reason) == ("truncated: found 3 bytes, expected 5", "truncated")
    assert error.detail == "found 3 bytes, expected 5"


def test_a_query_error_names_the_parameter() -> None:
    error = QueryError("limit", "found -1, expected 1 to 10000")
    assert str(error) == "limit: found -1, expected 1 to 10000"
    assert (error.parameter, error.detail) == ("limit", "found -1, expected 1 to 10000")
