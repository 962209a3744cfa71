"""The levels' numbers are in metrics, states and the control topic: they must not move."""

from __future__ import annotations

from k2_core.types import Level


def test_levels_are_the_designs() -> None:
    assert {level.name: int(level) for level in Level} == {
        "NORMAL": 0,
        "SOFT": 1,
        "GRACEFUL": 2,
        "AGGRESSIVE": 3,
        "CIRCUIT_BREAK": 4,
    }


def test_the_effective_level_is_the_higher_one() -> None:
    assert max(Level.SOFT, Level.AGGRESSIVE) is Level.AGGRESSIVE
