"""The tail on a real log; that answers agree with it is in test_app.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from k2_core.codec import BatchDecoder
from k2_core.errors import RetryableError
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.types import Offset, Partition
from k2_query import tail as module
from k2_query.boundary import LogPartition, LogRange
from k2_query.log_watch import LogWatch
from k2_query.metrics import QueryMetrics
from k2_query.segments import TailStore, Window
from k2_query.tail import Tail
from support.query import BASE, World, make_record, make_records
from support.records import encode
from support.waiting import wait_until

pytestmark = pytest.mark.kafka
EVERYTHING = Window(None, 0, 2**62)


class Followed:
    """A tail that runs, and the positions that it believes the lake to have."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.committed: dict[LogPartition, Offset] = {}
        self.store = TailStore(TRADES, 2**40)
        self.metrics = QueryMetrics(CollectorRegistry())
        self.watch = LogWatch(world.admin, [world.topic])
        self.decoder = BatchDecoder(TRADES, PackagedSchemas().by_id)
        self.tail = Tail(world.settings, self.store, self.watch, lambda _: self.committed, self.decoder, self.metrics)

    def position(self, at: LogPartition) -> int:
        return self.store.covered().get(at, (0, 0))[1]

    def start(self, at: LogPartition) -> int:
        return self.store.covered().get(at, (0, 0))[0]

    def end(self, at: LogPartition) -> int | None:
        """Where the log was last seen to end."""
        latest = self.watch.latest
        return None if latest is None else latest.bounds.topics[at.topic].ends[at.partition]

    def sequences(self, at: LogPartition) -> list[int]:
        rows, _ = self.store.view().select(EVERYTHING, [LogRange(at, Offset(0), Offset(10**9))])
        found: list[int] = rows.column("sequence").to_pylist()
        return found


@contextmanager
def following(world: World, committed: Mapping[LogPartition, Offset] | None = None) -> Iterator[Followed]:
    followed = Followed(world)
    followed.committed.update(committed or {})
    followed.watch.start()
    followed.tail.start()
    try:
        yield followed
    finally:
        followed.tail.stop()
        followed.watch.stop()


@pytest.fixture
def at(world: World) -> LogPartition:
    """Where BTCUSDT goes, with ten records in it."""
    world.create_topic()
    [*_, last] = world.produce(make_records("BTCUSDT", 0, 10, BASE))
    return LogPartition(world.topic, last.partition)


def test_begins_where_the_lake_ends_and_follows(world: World, at: LogPartition) -> None:
    with following(world, {at: Offset(4)}) as followed:
        wait_until(lambda: followed.position(at) == 10, "the end")
        assert followed.start(at) == 4
        assert followed.sequences(at) == [4, 5, 6, 7, 8, 9]
        world.produce(make_records("BTCUSDT", 10, 5, BASE))
        assert followed.store.wait_for({at: Offset(15)}, 20)
        assert followed.tail.problem is None
        wait_until(lambda: followed.tail.silent_s < 5, "a sign of life")
    assert followed.tail.problem == "the tail's thread is not running"


def test_waits_for_a_topic(world: World) -> None:
    with following(world) as followed:
        wait_until(lambda: followed.watch.latest, "a look")
        wait_until(lambda: followed.tail.problem is None, "patience")
        world.create_topic()
        [placed] = world.produce(make_records("BTCUSDT", 0, 1, BASE))
        wait_until(lambda: followed.position(LogPartition(world.topic, placed.partition)) == 1, "the record")


def test_markers_move_the_position_and_aborted_records_stay_out(world: World, at: LogPartition) -> None:
    producer = Producer({"bootstrap.servers": world.bootstrap_servers, "transactional.id": world.namespace})
    producer.init_transactions(20)
    with following(world) as followed:
        for first, commit in ((10, True), (20, False), (30, True)):
            producer.begin_transaction()
            for record in make_records("BTCUSDT", first, 3, BASE):
                producer.produce(world.topic, encode(record), partition=at.partition)
            producer.flush(20)
            if commit:
                producer.commit_transaction(20)
            else:
                producer.abort_transaction(20)
        end = Offset(10 + 3 * 4)
        wait_until(lambda: world.ends()[at.partition] == end, "the last marker")
        assert followed.store.wait_for({at: end}, 20), "the marker behind the last record counts"
        assert followed.sequences(at) == [*range(10), 10, 11, 12, 30, 31, 32]
    producer.close()


def test_a_commit_that_overtakes_it_by_far_takes_it_along(
    world: World, at: LogPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SKIP_AHEAD_RECORDS", 5)
    stuck = Followed(world)
    monkeypatch.setattr(stuck.decoder, "decode", lambda _: (_ for _ in ()).throw(RetryableError("registry: away")))
    stuck.watch.start()
    stuck.tail.start()
    try:
        wait_until(lambda: stuck.tail.problem == "registry: away", "the problem")
        assert stuck.position(at) == 0
        stuck.committed[at] = Offset(10)
        wait_until(lambda: stuck.start(at) == 10, "the jump")
    finally:
        stuck.tail.stop()
        stuck.watch.stop()


def test_when_overtaken_while_running_it_begins_again(
    world: World, at: LogPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SKIP_AHEAD_RECORDS", -1)
    monkeypatch.setattr(module, "COMPARE_S", 0.01)
    with following(world) as followed:
        wait_until(lambda: followed.position(at) == 10, "the end")
        followed.committed[at] = Offset(10)
        wait_until(lambda: followed.start(at) == 10, "the new beginning")


def test_a_commit_that_is_newer_than_the_last_look_at_the_log_is_no_reason_to_begin_again(
    world: World, at: LogPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARE_S", 0.0)
    with following(world) as followed:
        wait_until(lambda: followed.position(at) == 10, "the end")
        wait_until(lambda: followed.end(at) == 10, "a look")
        followed.watch.stop()  # it looks no more, and who begins again would have to wait for it
        world.produce(make_records("BTCUSDT", 10, 5, BASE))
        wait_until(lambda: followed.position(at) == 15, "what a commit takes in")
        followed.committed[at] = Offset(15)
        followed.store.trim(followed.committed)
        for end in (20, 25):  # the tail has compared between the two
            world.produce(make_records("BTCUSDT", end - 5, 5, BASE))
            wait_until(lambda end=end: followed.position(at) == end, "what comes after it")  # type: ignore[misc]
        assert followed.start(at) == 15
        assert followed.tail.problem is None


def test_a_rollback_makes_it_read_again(world: World, at: LogPartition) -> None:
    with following(world, {at: Offset(8)}) as followed:
        wait_until(lambda: followed.position(at) == 10, "the end")
        followed.committed[at] = Offset(3)
        wait_until(lambda: (followed.start(at), followed.position(at)) == (3, 10), "the older records")
        assert followed.sequences(at) == [3, 4, 5, 6, 7, 8, 9]


def test_new_partitions_are_followed_too(world: World, at: LogPartition) -> None:
    with following(world) as followed:
        wait_until(lambda: followed.position(at) == 10, "the end")
        from confluent_kafka.admin import NewPartitions

        admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
        admin.create_partitions([NewPartitions(world.topic, world.partitions + 1)])[world.topic].result(20)
        added = LogPartition(world.topic, Partition(world.partitions))
        wait_until(lambda: added in followed.store.covered(), "the new partition")
        wait_until(lambda: followed.position(at) == 10, "the end again")


def test_a_log_that_lost_the_position_is_followed_from_its_start(world: World, at: LogPartition) -> None:
    with following(world) as followed:
        wait_until(lambda: followed.position(at) == 10, "the end")
        cut = TopicPartition(at.topic, at.partition, 10)
        admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
        admin.delete_records([cut])[cut].result(20)
        world.produce(make_records("BTCUSDT", 10, 2, BASE))
        wait_until(lambda: followed.position(at) == 12, "the rest")
        assert followed.sequences(at)[-2:] == [10, 11]


def test_freshness_counts_from_receipt_and_from_the_exchange_if_that_is_near(world: World, at: LogPartition) -> None:
    with following(world) as followed:
        wait_until(lambda: followed.position(at) == 10, "the end")
        now = datetime.now(UTC)
        old = now - timedelta(minutes=5)
        world.produce(
            [
                make_record("BTCUSDT", 10, now, receive_timestamp=now),
                make_record("BTCUSDT", 11, old, receive_timestamp=now),
                make_record("BTCUSDT", 12, now, receive_timestamp=now, exchange_timestamp=None),
            ]
        )
        assert followed.store.wait_for({at: Offset(13)}, 20)
        registry = followed.metrics.registry

        def counted(name: str) -> float | None:
            return registry.get_sample_value(f"k2_query_{name}_seconds_count")

        wait_until(lambda: counted("freshness") == 13, "the figures")
        wait_until(lambda: counted("exchange_freshness") == 1, "the figures")
