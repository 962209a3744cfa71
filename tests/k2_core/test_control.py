"""What the control topic's records mean: both ways, which level is in force, and what is none of ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from k2_core.control import Command, ControlView, Override, command_key, dump_memory, memory_key, override_key
from k2_core.errors import StateError
from k2_core.types import Level

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAME = "market.crypto"
COMMAND = Command(Level.GRACEFUL, "FirstCrossing", AT, 12.5)


def override(level: Level | None, minutes: int = 0, lasts: int = 15) -> Override:
    made = AT + timedelta(minutes=minutes)
    return Override(level, "broker upgrade", "anna", made, made + timedelta(minutes=lasts))


def view(*records: tuple[bytes, bytes | None]) -> ControlView:
    made = ControlView(NAME)
    for key, value in records:
        made.take(key, value)
    return made


@pytest.mark.parametrize("interval_s", [None, 12.5], ids=["as-the-pipeline-says", "longer"])
def test_a_command_is_read_as_it_was_written(interval_s: float | None) -> None:
    command = Command(Level.CIRCUIT_BREAK, "ProbeFailed", AT, interval_s)
    assert Command.parse(command.dump()) == command


def test_the_form_of_a_command_is_the_contract() -> None:
    assert json.loads(COMMAND.dump()) == {
        "format": 1,
        "level": 2,
        "reason": "FirstCrossing",
        "commit_interval_s": 12.5,
        "decided_at": "2026-03-01T12:00:00.000000Z",
    }


@pytest.mark.parametrize("level", [None, Level.SOFT], ids=["taken-back", "level"])
def test_an_override_is_read_as_it_was_written(level: Level | None) -> None:
    assert Override.parse(override(level).dump()) == override(level)


class TestLevel:
    def test_nobody_has_said_anything(self) -> None:
        assert view().level(AT) is Level.NORMAL

    def test_the_newest_command(self) -> None:
        later = Command(Level.SOFT, "Recovered", AT + timedelta(minutes=5))
        found = view((command_key(NAME), COMMAND.dump()), (command_key(NAME), later.dump()))
        assert found.level(AT) is Level.SOFT
        assert found.command == later

    def test_an_override_wins_until_it_ends(self) -> None:
        one = override(Level.NORMAL)
        found = view((command_key(NAME), COMMAND.dump()), (override_key(NAME, one), one.dump()))
        assert found.level(AT + timedelta(minutes=14)) is Level.NORMAL
        assert found.level(AT + timedelta(minutes=15)) is Level.GRACEFUL

    def test_the_newest_override_wins_in_whatever_order_they_come(self) -> None:
        first, second = override(Level.SOFT), override(Level.AGGRESSIVE, minutes=1)
        found = view((override_key(NAME, second), second.dump()), (override_key(NAME, first), first.dump()))
        assert found.level(AT + timedelta(minutes=2)) is Level.AGGRESSIVE
        assert found.overrides == (first, second)

    def test_an_override_that_is_taken_back_ends_at_once(self) -> None:
        first, second = override(Level.CIRCUIT_BREAK), override(None, minutes=1)
        found = view((override_key(NAME, first), first.dump()), (override_key(NAME, second), second.dump()))
        assert found.level(AT + timedelta(minutes=2)) is Level.NORMAL
        assert found.override(AT + timedelta(minutes=2)) is None

    def test_overrides_keep_keys_of_their_own(self) -> None:
        keys = {override_key(NAME, override(Level.SOFT, minutes)) for minutes in range(3)}
        assert len(keys) == 3


class TestOthers:
    @pytest.mark.parametrize(
        "key",
        [None, b"", b"market.crypto2/command", b"market.crypto/other", b"market/command", b"\xff/command"],
        ids=["none", "empty", "longer-name", "other-kind", "shorter-name", "no-text"],
    )
    def test_records_of_others_change_nothing(self, key: bytes | None) -> None:
        found = ControlView(NAME)
        found.take(key, COMMAND.dump())
        assert found == ControlView(NAME)

    def test_a_deletion_changes_nothing(self) -> None:
        assert view((command_key(NAME), COMMAND.dump()), (command_key(NAME), None)).command == COMMAND

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            (b"", "found b''"),
            (b"[]", "found b'\\[\\]'"),
            (b"{}", "found b'{}'"),
            (b"\xff\xfe", "found b'"),
            (COMMAND.dump().replace(b'"format":1', b'"format":2'), "found format 2, expected 1"),
            (COMMAND.dump().replace(b'"level":2', b'"level":7'), "expected a command"),
            (COMMAND.dump().replace(b"12:00:00.000000Z", b"12:00:00"), "expected a command"),
            (COMMAND.dump().replace(b"12.5", b'"soon"'), "expected a command"),
        ],
        ids=["empty", "list", "no-format", "no-text", "newer", "no-such-level", "no-zone", "no-number"],
    )
    def test_garbage_is_named_and_the_level_stays(self, value: bytes, found: str) -> None:
        standing = view((command_key(NAME), COMMAND.dump()))
        with pytest.raises(StateError, match=found):
            standing.take(command_key(NAME), value)
        assert standing.level(AT) is Level.GRACEFUL

    def test_a_broken_override_is_named(self) -> None:
        with pytest.raises(StateError, match="expected an override"):
            ControlView(NAME).take(override_key(NAME, override(Level.SOFT)), COMMAND.dump())


class TestMemory:
    def test_what_is_stored_is_what_is_found(self) -> None:
        assert view((memory_key(NAME), dump_memory({"format": 9, "level": {"a": None}}))).memory == {
            "format": 9,
            "level": {"a": None},
        }

    def test_garbage_is_named(self) -> None:
        with pytest.raises(StateError, match="expected a controller's memory"):
            ControlView(NAME).take(memory_key(NAME), COMMAND.dump())
