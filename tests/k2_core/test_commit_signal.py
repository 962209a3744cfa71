"""The JSON beside a committed position: both ways, and what is none of ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from k2_core.commit_signal import CommitSignal

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize("newest", [None, AT - timedelta(seconds=3)], ids=["no-rows", "rows"])
def test_what_is_told_is_what_is_heard(newest: datetime | None) -> None:
    signal = CommitSignal(AT, newest)
    assert CommitSignal.parse(signal.dump()) == signal


def test_the_form_is_the_contract() -> None:
    assert CommitSignal(AT, None).dump() == '{"committed_at":"2026-03-01T12:00:00.250000Z","newest_event_time":null}'


def test_other_time_zones_become_utc() -> None:
    sydney = AT.astimezone(timezone(timedelta(hours=11)))
    assert CommitSignal(sydney, sydney).dump() == CommitSignal(AT, AT).dump()


@pytest.mark.parametrize(
    "text",
    [None, "", "{}", "[]", "7", '{"committed_at":7,"newest_event_time":null}', '{"committed_at":"soon"}'],
    ids=["none", "empty", "no-keys", "list", "number", "no-text", "no-time"],
)
def test_what_others_wrote_is_no_signal(text: str | None) -> None:
    assert CommitSignal.parse(text) is None
