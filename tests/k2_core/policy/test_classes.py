"""What each level defers."""

from __future__ import annotations

import pytest

from k2_core.policy.classes import OWES_NOTHING_NEW, Priority, is_deferred
from k2_core.types import Level
from k2_sink.ledger import DRAINS_UP_TO


@pytest.mark.parametrize(
    ("level", "deferred"),
    [
        (Level.NORMAL, set()),
        (Level.SOFT, set()),
        (Level.GRACEFUL, {Priority.LOW}),
        (Level.AGGRESSIVE, {Priority.LOW, Priority.NORMAL}),
        (Level.CIRCUIT_BREAK, set(Priority)),
    ],
    ids=lambda value: value.name if isinstance(value, Level) else "",
)
def test_a_level_defers(level: Level, deferred: set[Priority]) -> None:
    assert {priority for priority in Priority if is_deferred(level, priority)} == deferred


def test_a_class_waits_only_if_every_lower_one_does_and_stays_so_at_higher_levels() -> None:
    for level in Level:
        for priority in Priority:
            if is_deferred(level, priority):
                assert all(is_deferred(level, lower) for lower in Priority if lower < priority)
                assert all(is_deferred(higher, priority) for higher in Level if higher > level)


def test_the_level_of_a_stop_defers_nothing_and_drains_what_is_owed() -> None:
    assert not any(is_deferred(OWES_NOTHING_NEW, priority) for priority in Priority)
    assert any(is_deferred(Level(OWES_NOTHING_NEW + 1), priority) for priority in Priority)
    assert OWES_NOTHING_NEW <= DRAINS_UP_TO
