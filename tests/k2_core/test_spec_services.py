"""Sink, query and upkeep: what is particular to them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from k2_core.spec_services import MaintenanceSpec, QuerySpec


@pytest.mark.parametrize("schedule", ["0 3 * * *", "*/15 0-6 1,15 * 1"])
def test_schedules(schedule: str) -> None:
    assert MaintenanceSpec(schedule=schedule).schedule == schedule


@pytest.mark.parametrize("schedule", ["daily", "0 3 * *", "0 3 * * * *"])
def test_what_is_no_schedule(schedule: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        MaintenanceSpec(schedule=schedule)


TRINO = {"url": "http://trino:8080"}


@pytest.mark.parametrize(
    ("query", "needs_operator"),
    [
        pytest.param({}, False, id="single"),
        pytest.param({"mode": "distributed", "trino": TRINO}, False, id="one that exists"),
        pytest.param({"mode": "distributed"}, True, id="the operator's"),
        pytest.param({"mode": "distributed", "trinoCluster": {}}, True, id="the operator's, described"),
    ],
)
def test_the_mode_says_whether_there_is_a_trino(query: dict[str, object], needs_operator: bool) -> None:
    assert QuerySpec.model_validate(query).needs_operator is needs_operator


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({"trino": TRINO}, "found a Trino for mode single, expected none", id="single"),
        pytest.param({"trinoCluster": {}}, "found a Trino for mode single, expected none", id="single, described"),
        pytest.param(
            {"mode": "distributed", "trino": TRINO, "trinoCluster": {}}, "expected at most one of the two", id="both"
        ),
    ],
)
def test_what_contradicts_the_mode_is_refused(query: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        QuerySpec.model_validate(query)
