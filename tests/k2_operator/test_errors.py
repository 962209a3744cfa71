from __future__ import annotations

from k2_core.errors import PermanentError, RetryableError
from k2_operator.errors import ApiRefusedError, ApiUnavailableError, FieldConflict, FieldConflictError, GoneError


def test_no_answer_is_worth_another_try_and_a_refusal_is_not() -> None:
    assert issubclass(ApiUnavailableError, RetryableError)
    assert issubclass(ApiRefusedError, PermanentError)
    assert issubclass(GoneError, ApiRefusedError)


def test_a_refusal_holds_status_and_words() -> None:
    error = ApiRefusedError(403, "pods is forbidden")
    assert error.status == 403
    assert str(error) == "the API server refused with 403: pods is forbidden"


def test_a_conflict_holds_who_owns_what() -> None:
    error = FieldConflictError("1 conflict", [FieldConflict("argo", ".spec.replicas", declared=True)])
    assert error.status == 409
    assert [(one.manager, one.field, one.declared) for one in error.conflicts] == [("argo", ".spec.replicas", True)]
