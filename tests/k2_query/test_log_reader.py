from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from k2_core.errors import RetryableError
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.types import Offset, Partition
from k2_query import log_reader, view_cache
from k2_query.boundary import LogPartition, LogRange
from k2_query.budget import Budget
from k2_query.log_reader import LogReader
from k2_query.segments import TailView, Window
from support.query import BASE, World, make_records

pytestmark = pytest.mark.kafka
EVERYTHING = Window(None, 0, 2**62)


@pytest.fixture
def at(world: World) -> LogPartition:
    """A partition of 100 records and a few that are none."""
    world.create_topic()
    [*_, last] = world.produce(make_records("BTCUSDT", 0, 90, BASE))
    world.produce_raw([b"no record"] * 10)
    return LogPartition(world.topic, last.partition)


def span(at: LogPartition, start: int, end: int) -> LogRange:
    return LogRange(at, Offset(start), Offset(end))


def read(reader: LogReader, world: World, *ranges: LogRange, budget: Budget | None = None) -> dict[LogRange, TailView]:
    return reader.read(ranges, {world.topic: world.topic_id}, budget or Budget(20))


def reader_of(world: World) -> LogReader:
    return LogReader(world.settings, TRADES, PackagedSchemas())


def test_reads_exactly_a_range_and_remembers_it(
    world: World, at: LogPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of(world)
    first, second = span(at, 10, 20), span(at, 85, 100)
    views = read(reader, world, first, second)
    rows, evicted = views[first].select(EVERYTHING, [first])
    assert rows.column("sequence").to_pylist() == list(range(10, 20))
    assert rows.column("topic_id").to_pylist() == [world.topic_id] * 10
    assert evicted == ()
    assert views[second].select(EVERYTHING, [second])[0].column("sequence").to_pylist() == list(range(85, 90))
    monkeypatch.setattr(LogReader, "_read_one", None)
    assert read(reader, world, first)[first] is views[first]


def test_the_memory_of_ranges_is_bounded(world: World, at: LogPartition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_cache, "CACHE_BYTES", 0)
    reader = reader_of(world)
    first, second = span(at, 10, 20), span(at, 20, 30)
    view = read(reader, world, first)[first]
    read(reader, world, second)
    assert read(reader, world, first)[first] is not view


def test_more_than_a_query_may_read_is_left_out(
    world: World, at: LogPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "MAX_RECORDS", 15)
    small, large = span(at, 0, 10), span(at, 10, 20)
    assert set(read(reader_of(world), world, small, large)) == {small}


def test_what_the_log_no_longer_has_is_left_out(world: World, at: LogPartition) -> None:
    cut = TopicPartition(at.topic, at.partition, 50)
    admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
    admin.delete_records([cut])[cut].result(20)
    gone, there = span(at, 40, 45), span(at, 50, 60)
    assert set(read(reader_of(world), world, gone, there)) == {there}


def test_a_partition_that_does_not_exist_is_left_out(world: World, at: LogPartition) -> None:
    stranger = span(LogPartition(at.topic, Partition(77)), 0, 5)
    assert read(reader_of(world), world, stranger) == {}


def test_a_broker_that_is_away_ends_with_the_reading_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "MAX_READ_S", 0.2)
    settings = world.settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    reader = LogReader(settings, TRADES, PackagedSchemas())
    at = LogPartition(world.topic, Partition(0))
    assert reader.read([span(at, 0, 5)], {world.topic: "x"}, Budget(20)) == {}  # type: ignore[dict-item]


def test_a_query_that_was_cancelled_reads_nothing(world: World, at: LogPartition) -> None:
    budget = Budget(20)
    budget.cancel("client gone")
    with pytest.raises(RetryableError, match="client gone"):
        read(reader_of(world), world, span(at, 0, 5), budget=budget)
