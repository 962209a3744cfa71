"""Sink, query and upkeep: what is particular to them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from k2_core.spec_services import MaintenanceSpec


@pytest.mark.parametrize("schedule", ["0 3 * * *", "*/15 0-6 1,15 * 1"])
def test_schedules(schedule: str) -> None:
    assert MaintenanceSpec(schedule=schedule).schedule == schedule


@pytest.mark.parametrize("schedule", ["daily", "0 3 * *", "0 3 * * * *"])
def test_what_is_no_schedule(schedule: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        MaintenanceSpec(schedule=schedule)
