"""k2_cli.exits."""

from __future__ import annotations

import pytest

from k2_cli.exits import ExitCode, exit_code_of
from k2_core.errors import (
    CatalogUnavailableError,
    K2Error,
    KafkaUnavailableError,
    QueryError,
    RecordError,
    SetupError,
    SpecError,
    StateError,
    VenueUnavailableError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(SpecError("spec.sink", "1", "2"), 2, id="pipeline file"),
        pytest.param(QueryError("limit", "found 0"), 2, id="parameter"),
        pytest.param(RecordError("malformed_json", "found {"), 2, id="record"),
        pytest.param(SetupError("port 8000 is in use"), 3, id="set-up"),
        pytest.param(StateError("no state"), 5, id="state"),
        pytest.param(KafkaUnavailableError("no broker"), 4, id="kafka"),
        pytest.param(CatalogUnavailableError("locked"), 4, id="catalog"),
        pytest.param(VenueUnavailableError("451"), 4, id="venue"),
    ],
)
def test_each_error_has_its_exit_code(error: K2Error, code: int) -> None:
    assert exit_code_of(error) == code


def test_the_codes_are_the_documented_ones() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "NOT_WELL": 1,
        "BAD_INPUT": 2,
        "SETUP": 3,
        "UNAVAILABLE": 4,
        "REFUSED": 5,
        "INTERRUPTED": 130,
    }
