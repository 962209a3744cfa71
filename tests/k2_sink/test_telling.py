"""What a sink says of itself: counts since it began, what it owes, and only what it knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

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
    return Telling(lambda: Level.SOFT, "sink", lambda: 0.25, lambda: AT)


def test_what_was_read_and_what_of_it_was_shed() -> None:
    told = telling()
    told.read(100, 0)
    told.read(50, 30)
    told.failing, told.commit_s = True, 1.5
    assert SinkReport.parse(told.report(Level.GRACEFUL, [])) == SinkReport(
        "sink", AT, Level.GRACEFUL, Level.SOFT, 120, 30, 0.25, failing=True, commit_s=1.5
    )


def test_what_is_owed_and_since_when() -> None:
    later = replace(ENTRY, start=Offset(90), end=Offset(99), records=2, oldest_ms=int(AT.timestamp() * 1000))
    found = SinkReport.parse(telling().report(Level.NORMAL, [later, ENTRY]))
    assert found is not None
    assert (found.deferred, found.oldest_deferred_at) == (32, OLDEST)


def test_what_raw_files_hold_does_not_grow_old() -> None:
    kept = replace(ENTRY, raw_file="raw", oldest_ms=1)
    for owed, oldest in (([kept, ENTRY], OLDEST), ([kept], AT), ([], None)):
        found = SinkReport.parse(telling().report(Level.AGGRESSIVE, owed))
        assert found is not None
        assert (found.deferred, found.oldest_deferred_at) == (30 * len(owed), oldest)


def test_each_process_is_another_sink_and_knows_its_memory() -> None:
    one, two = Telling(), Telling()
    assert one.name != two.name
    found = SinkReport.parse(one.report(Level.NORMAL, []))
    assert found is not None
    assert found.memory_ratio is not None
    assert 0 < found.memory_ratio < 1
