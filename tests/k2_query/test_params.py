from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from k2_query.params import RecentQuery, SummaryQuery, TradesQuery, to_us
from k2_query.segments import Window

NOW = datetime(2024, 8, 9, 0, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-08-08T23:54:15.5Z", datetime(2024, 8, 8, 23, 54, 15, 500_000, tzinfo=UTC)),
        ("2024-08-08T23:54:15", datetime(2024, 8, 8, 23, 54, 15, tzinfo=UTC)),
        ("2024-08-08", datetime(2024, 8, 8, tzinfo=UTC)),
        ("2024-08-08T10:00:00+10:00", datetime(2024, 8, 8, tzinfo=UTC)),
    ],
    ids=["zulu", "naive-is-utc", "day", "offset"],
)
def test_times_are_iso_8601_and_utc(text: str, expected: datetime) -> None:
    assert TradesQuery.model_validate({"symbol": "X", "start": text}).start == expected


def test_microseconds_survive() -> None:
    assert to_us(datetime(2024, 8, 8, 23, 54, 15, 123_457, tzinfo=UTC)) == 1_723_161_255_123_457
    query = TradesQuery.model_validate({"symbol": "X", "start": "2024-08-08T23:54:15.123457Z", "end": "2024-08-09"})
    assert query.window == Window("X", 1_723_161_255_123_457, 1_723_161_600_000_000)


def test_without_bounds_a_window_is_everything() -> None:
    window = TradesQuery(symbol="X").window
    assert window.start_us == 0
    assert window.end_us > to_us(datetime(2199, 12, 31, tzinfo=UTC))
    assert TradesQuery(symbol="X", start=NOW).start == NOW


@pytest.mark.parametrize(
    ("given", "back"),
    [({}, timedelta(minutes=15)), ({"window": "90s"}, timedelta(seconds=90)), ({"window": "24h"}, timedelta(days=1)),
     ({"window_minutes": 3}, timedelta(minutes=3))],
    ids=["default", "seconds", "a-day", "minutes"],
)  # fmt: skip
def test_recent_windows_count_back_from_now(given: dict[str, object], back: timedelta) -> None:
    window = RecentQuery.model_validate({"symbol": "X", **given}).window_at(NOW)
    assert window.start_us == to_us(NOW - back)
    assert window.end_us > to_us(NOW + timedelta(days=1))


@pytest.mark.parametrize("text", ["0m", "15", "m", "1d", "-1m", "1441m", "999999h", ""])
def test_other_windows_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="such as 90s, 15m or 2h"):
        RecentQuery.model_validate({"symbol": "X", "window": text})


def test_days_are_half_open() -> None:
    window = SummaryQuery.model_validate({"start": "2024-08-08", "end": "2024-08-10"}).window("X")
    assert window.end_us - window.start_us == 2 * 86_400_000_000
