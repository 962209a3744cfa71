"""What a sink says of itself: counts since it began, what it owes, and only what it knows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from k2_core.sink_report import SinkReport
from k2_core.state import LedgerEntry
from k2_core.types import Level, Offset, Partition, TopicName
from k2_sink.telling import Telling

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLDEST = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)
ENTRY = LedgerEntry(
    TopicName("t"),
    Partition(0),
    Offset(10),
    Offset(90),
    ("DOGEUSDT",),
    2,
    "level 2",
    records=30,
    oldest_ms=int(OLDEST.timestamp() * 1000),
)


def telling() -> Telling:
    return Telling(lambda: Level.SOFT, "sink", lambda: 0.25, lambda: AT, commanded=lambda: Level.GRACEFUL)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def told_by(one: Telling) -> SinkReport:
    found = SinkReport.parse(one.report([]))
    assert found is not None
    return found


def test_what_was_read_and_what_of_it_was_shed() -> None:
    told = telling()
    told.read(100, 0)
    told.read(50, 30)
    told.failing = True
    told.committed(1.5)
    assert SinkReport.parse(told.report([], 7)) == SinkReport(
        "sink", AT, Level.GRACEFUL, Level.SOFT, 120, 30, 0.25, failing=True, commit_s=1.5, standing_s=0, waiting=7
    )


def test_how_long_commits_take_is_the_slower_of_the_last_two() -> None:
    told = telling()
    seen = [told_by(told).commit_s]
    for seconds in (3.0, 1.0, 0.5):
        told.committed(seconds)
        seen.append(told_by(told).commit_s)
    assert seen == [None, 3.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("stood_s", "later_s", "told_s"),
    [(4.0, 0.0, 4.0), (4.0, 3.9, 4.0), (4.0, 4.0, 0.0), (0.25, 0.9, 0.25), (0.25, 1.0, 0.0), (0.05, 0.0, 0.0)],
)
def test_for_how_long_reading_stood_still_is_told_while_it_catches_up(
    stood_s: float, later_s: float, told_s: float
) -> None:
    clock = Clock()
    told = replace(telling(), clock=clock)
    with told.reading():
        pass
    clock.now_s += stood_s
    with told.reading():
        clock.now_s += later_s
    assert told_by(told).standing_s == told_s


def test_the_longer_of_two_stands_counts() -> None:
    clock = Clock()
    told = replace(telling(), clock=clock)
    for stands_s in (4.0, 0.5, 0.0):
        with told.reading():
            pass
        clock.now_s += stands_s
    assert told_by(told).standing_s == 4


def test_a_read_that_fails_ends_too() -> None:
    clock = Clock()
    told = replace(telling(), clock=clock)
    with suppress(OSError), told.reading():
        clock.now_s += 5
        raise OSError("away")
    with told.reading():
        pass
    assert told_by(told).standing_s == 0


def test_what_is_owed_and_since_when() -> None:
    later = replace(ENTRY, start=Offset(90), end=Offset(99), records=2, oldest_ms=int(AT.timestamp() * 1000))
    found = SinkReport.parse(telling().report([later, ENTRY]))
    assert found is not None
    assert (found.deferred, found.oldest_deferred_at) == (32, OLDEST)


def test_what_raw_files_hold_does_not_grow_old() -> None:
    kept = replace(ENTRY, raw_file="raw", oldest_ms=1)
    for owed, oldest in (([kept, ENTRY], OLDEST), ([kept], AT), ([], None)):
        found = SinkReport.parse(telling().report(owed))
        assert found is not None
        assert (found.deferred, found.oldest_deferred_at) == (30 * len(owed), oldest)


def test_each_process_is_another_sink_and_knows_its_memory() -> None:
    one, two = Telling(), Telling()
    assert one.name != two.name
    found = SinkReport.parse(one.report([]))
    assert found is not None
    assert found.memory_ratio is not None
    assert 0 < found.memory_ratio < 1
