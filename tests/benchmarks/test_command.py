"""What the times of commands must not be made of: another level's change, one slow command that a mean would hide."""

from __future__ import annotations

import pytest
from command import Acted, acted_at_s, figures

from k2_core.errors import SetupError
from k2_core.types import Level

SAID = [
    {"time": "2026-03-01T12:00:00.250+00:00", "to_level": 2},
    {"time": "2026-03-01T12:00:01.500+00:00", "to_level": 3},
]


def test_each_command_has_its_own_change() -> None:
    assert acted_at_s(SAID, 1, Level.AGGRESSIVE) - acted_at_s(SAID, 0, Level.GRACEFUL) == 1.25


def test_a_change_to_another_level_is_a_failure() -> None:
    with pytest.raises(SetupError, match="change 2: found level 3, expected 2"):
        acted_at_s(SAID, 1, Level.GRACEFUL)


def test_both_services_are_held_to_their_slowest() -> None:
    times = [Acted(0.1, 0.2)] * 50
    assert [one.met for one in figures(times)] == [True, None, True, None]
    late = [*times, Acted(0.1, 9.0)]
    assert [one.met for one in figures(late)] == [True, None, False, None]
    assert [one.value for one in figures(late)][3] == 0.2
