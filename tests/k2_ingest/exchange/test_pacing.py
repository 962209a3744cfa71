"""Sources on a clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_ingest.exchange.captures import Captures
from k2_ingest.exchange.config import SyntheticSource
from k2_ingest.exchange.pacing import CaptureSchedule, Schedule, SyntheticSchedule


def captured(path: Path, *seconds: int) -> Captures:
    path.write_bytes(b"".join(b'%d {"stream":"a@depth","data":{}}\n' % (second * 10**9) for second in seconds))
    return Captures((path,))


def drain(schedule: Schedule, most: int) -> list[int]:
    sizes = []
    while schedule.next_due_s is not None:
        sizes.append(len(schedule.take(0.0, 1, most)))
    return sizes


def test_a_capture_keeps_its_pace_times_speed(tmp_path: Path) -> None:
    schedule = CaptureSchedule(captured(tmp_path / "a", 10, 12, 12, 20), speed=2)
    assert len(schedule.take(0.0, 1, 99)) == 1
    assert schedule.next_due_s == 1.0
    assert schedule.take(0.9, 1, 99) == []
    assert len(schedule.take(1.0, 1, 99)) == 2
    assert len(schedule.take(5.0, 1, 99)) == 1
    assert schedule.next_due_s is None
    assert schedule.take(9.0, 1, 99) == []


def test_a_capture_at_full_speed_is_taken_in_batches(tmp_path: Path) -> None:
    assert drain(CaptureSchedule(captured(tmp_path / "a", 1, 2, 3, 4, 5), speed=0), 2) == [2, 2, 1]


def test_an_empty_capture_has_nothing_due(tmp_path: Path) -> None:
    schedule = CaptureSchedule(captured(tmp_path / "a"), speed=0)
    assert schedule.next_due_s is None
    assert schedule.take(0.0, 1, 1) == []


def test_synthetic_trades_happen_now_and_stop_at_their_count() -> None:
    schedule = SyntheticSchedule(SyntheticSource(rate=0, count=5))
    events = schedule.take(0.0, 77, 99)
    assert [event.trade.time_us for event in events if event.trade] == [77] * 5
    assert schedule.next_due_s is None


def test_synthetic_trades_keep_their_mean_rate() -> None:
    schedule = SyntheticSchedule(SyntheticSource(rate=1_000, count=None))
    assert len(schedule.take(20.0, 1, 10**6)) == pytest.approx(20_000, rel=0.1)
    assert schedule.next_due_s is not None
    assert schedule.next_due_s > 20.0


def test_a_count_of_nothing_is_finished_at_once() -> None:
    assert SyntheticSchedule(SyntheticSource(count=0)).next_due_s is None
