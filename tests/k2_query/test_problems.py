from __future__ import annotations

import pytest
from pydantic import ValidationError

from k2_core.errors import CatalogUnavailableError, K2Error, QueryError, StateError
from k2_query.params import TradesQuery
from k2_query.problems import of_error, of_status, of_validation, shown


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (QueryError("limit", "found 0, expected 1"), 400, "invalid-parameter"),
        (CatalogUnavailableError("catalog: away"), 503, "unavailable"),
        (StateError("found row-level deletes"), 503, "refused"),
    ],
    ids=["query", "retryable", "permanent"],
)
def test_errors_become_problems(error: K2Error, status: int, kind: str) -> None:
    problem = of_error(error)
    assert (problem.status, problem.kind) == (status, kind)
    document = problem.document("id")
    assert document["detail"] == str(error)
    assert document["correlation_id"] == "id"
    assert ("Retry-After" in problem.headers) is (kind == "unavailable")


def test_the_first_fault_is_named_and_the_others_counted() -> None:
    with pytest.raises(ValidationError) as refusal:
        TradesQuery.model_validate({"symbol": "BTCUSDT", "limit": "many", "order": "up"})
    errors = [error | {"loc": ("query", *error["loc"])} for error in refusal.value.errors()]
    problem = of_validation(errors)
    assert problem.detail.startswith("limit: found 'many', expected")
    assert problem.detail.endswith("(and 1 more)")
    assert problem.more == {"parameter": "limit", "found": "'many'"}


def test_a_message_that_pydantic_words_otherwise_is_kept() -> None:
    problem = of_validation([{"loc": ("query", "x"), "type": "other", "msg": "Data too odd", "input": 1}])
    assert problem.detail == "x: found 1, expected data too odd"


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 1000)) == 80
    assert of_status(405, "/v1/trades", "POST").detail == "found POST /v1/trades, expected GET"
