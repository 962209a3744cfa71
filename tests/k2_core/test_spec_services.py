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


def test_the_mode_says_whether_there_is_a_trino() -> None:
    trino = {"url": "http://trino:8080"}
    assert QuerySpec().trino is None
    found = QuerySpec.model_validate({"mode": "distributed", "trino": trino}).trino
    assert found is not None
    assert (found.catalog, found.user) == ("k2", "k2")
    expected = "expected one for mode distributed, and none for mode single"
    with pytest.raises(ValidationError, match=f"found no Trino for mode distributed, {expected}"):
        QuerySpec.model_validate({"mode": "distributed"})
    with pytest.raises(ValidationError, match=f"found a Trino for mode single, {expected}"):
        QuerySpec.model_validate({"trino": trino})
