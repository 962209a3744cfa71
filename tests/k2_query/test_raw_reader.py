"""Open ledger ranges out of raw files, beside a real table: all that is owed, or nothing and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyiceberg.table import Table

from k2_core.errors import RetryableError
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.state import LedgerEntry
from k2_core.tables import ensure_table
from k2_core.types import Offset, Partition, TopicId
from k2_query import raw_reader, view_cache
from k2_query.budget import Budget
from k2_query.raw_reader import RawRead, RawReader, range_of
from k2_query.segments import Window
from support.query import BASE, Logged, World, make_records

pytestmark = pytest.mark.kafka
EVERYTHING = Window(None, 0, 2**62)
AT = Partition(0)
PLACED = [Logged(one, TopicId("id"), AT, Offset(at)) for at, one in enumerate(make_records("BTCUSDT", 0, 60, BASE))]


@pytest.fixture
def reader() -> RawReader:
    return RawReader(TRADES, PackagedSchemas())


def table_of(world: World) -> Table:
    return ensure_table(world.catalog, world.namespace, TRADES, world.pipeline.uid)


def owed(world: World, start: int, end: int) -> LedgerEntry:
    """An entry whose records are in two raw files."""
    entry = LedgerEntry(world.topic, AT, Offset(start), Offset(end), ("BTCUSDT",), 3, "load", end - start)
    middle = (start + end) // 2
    return world.defer(PLACED[middle:end], entry, world.defer(PLACED[start:middle], entry).raw_file)


def read(reader: RawReader, world: World, *entries: LedgerEntry, budget: Budget | None = None) -> RawRead:
    return reader.read(entries, table_of(world), {world.topic: TopicId("id")}, budget or Budget(20))


def test_reads_what_is_owed_in_its_order_and_remembers_it(
    reader: RawReader, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = owed(world, 3, 20), owed(world, 30, 41)
    found = read(reader, world, first, second)
    assert found.problems == []
    for entry in (first, second):
        rows, evicted = found.views[range_of(entry)].select(EVERYTHING, [range_of(entry)])
        expected = list(range(entry.start, entry.end))
        assert rows.column("sequence").to_pylist() == rows.column("kafka_offset").to_pylist() == expected
        assert set(rows.column("topic_id").to_pylist()) == {"id"}
        assert evicted == ()
    monkeypatch.setattr(RawReader, "_read_one", None)
    assert read(reader, world, first).views[range_of(first)] is found.views[range_of(first)]


def test_of_what_was_paid_in_part_the_rest_is_read(reader: RawReader, world: World) -> None:
    entry = replace(owed(world, 0, 40), start=Offset(35), records=5)
    view = read(reader, world, entry).views[range_of(entry)]
    rows, _ = view.select(EVERYTHING, [range_of(entry)])
    assert rows.column("sequence").to_pylist() == list(range(35, 40))


def test_the_memory_is_bounded(reader: RawReader, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_cache, "CACHE_BYTES", 0)
    first, second = owed(world, 0, 10), owed(world, 10, 20)
    view = read(reader, world, first).views[range_of(first)]
    read(reader, world, second)
    assert read(reader, world, first).views[range_of(first)] is not view


def test_more_than_a_query_may_read_is_left_out_and_said(
    reader: RawReader, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_reader, "MAX_RECORDS", 15)
    small, large = owed(world, 0, 10), owed(world, 10, 30)
    found = read(reader, world, small, large)
    assert set(found.views) == {range_of(small)}
    assert found.problems == ["20 deferred records are more than one query reads"]


def test_a_file_that_is_gone_costs_its_range_alone(reader: RawReader, world: World) -> None:
    gone, there = owed(world, 0, 10), owed(world, 10, 20)
    [path] = world.folder.rglob(gone.raw_file or "")
    path.unlink()
    found = read(reader, world, gone, there)
    assert set(found.views) == {range_of(there)}
    assert path.name in found.problems[0]


def test_files_that_hold_another_number_than_is_owed_are_not_believed(reader: RawReader, world: World) -> None:
    entry = replace(owed(world, 0, 10), records=11)
    found = read(reader, world, entry)
    assert found.views == {}
    assert "in offsets [0, 10), expected the 11 that are owed" in found.problems[0]


def test_a_query_that_was_cancelled_reads_nothing(reader: RawReader, world: World) -> None:
    budget = Budget(20)
    budget.cancel("client gone")
    with pytest.raises(RetryableError, match="client gone"):
        read(reader, world, owed(world, 0, 10), budget=budget)


def test_files_that_take_too_long_end_with_the_reading_time(
    reader: RawReader, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_reader, "MAX_READ_S", 0.0)
    found = read(reader, world, owed(world, 0, 10))
    assert found.views == {}
    assert "expected one; ask for less" in found.problems[0]
