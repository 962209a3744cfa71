"""Reading ranges of the log again, on a real Kafka: what is owed of them and nothing else, at a bounded rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import StateError
from k2_core.state import LedgerEntry
from k2_core.types import Level, Offset, Partition, TopicName
from k2_sink.consumer import CHUNK_RECORDS
from k2_sink.drain import PASSED_OVER_COST, REST_S, Drain, Limits, RangeReader, Taken, count_owed
from k2_sink.settings import SinkSettings
from support.kafka import TopicFactory
from support.waiting import wait_until

KEYS = (b"A", b"B", None)


@dataclass
class Log:
    """A topic of two partitions with as many records, of keys A, B and none in turn, and readers of it."""

    kafka: LocalKafka
    topic: TopicName
    opened: list[RangeReader] = field(default_factory=list)

    def fill(self, count: int) -> None:
        config = {"bootstrap.servers": self.kafka.bootstrap_servers, "linger.ms": 5, "enable.idempotence": True}
        producer = Producer(config)  # else the first records of a new topic may come behind later ones
        for number in range(2 * count):
            value, partition = number // 2, number % 2
            producer.produce(self.topic, value=b"%d" % value, key=KEYS[value % 3], partition=partition)
        assert producer.flush(30) == 0

    def entry(self, start: int, end: int, *symbols: str, partition: int = 0, records: int | None = None) -> LedgerEntry:
        owed = sum(KEYS[number % 3] in [one.encode() for one in symbols] for number in range(start, end))
        at = (self.topic, Partition(partition), Offset(start), Offset(end))
        return LedgerEntry(*at, symbols, 2, "load", owed if records is None else records)

    def reader(self) -> RangeReader:
        settings = SinkSettings.model_validate({"kafka_bootstrap_servers": self.kafka.bootstrap_servers})
        self.opened.append(RangeReader(settings, "group"))
        return self.opened[-1]


@pytest.fixture
def log(kafka: LocalKafka, topic_factory: TopicFactory) -> Iterator[Log]:
    found = Log(kafka, TopicName(topic_factory(partitions=2)))
    yield found
    for reader in found.opened:
        reader.close()


def values(taken: Taken) -> list[int]:
    return [int(value or b"") for chunk in taken.chunks for value in chunk.values]


def offsets(taken: Taken) -> list[int]:
    return [offset for chunk in taken.chunks for offset in chunk.offsets.tolist()]


def limits(records_per_s: float = 1e9, commit_records: int = 100_000) -> Limits:
    return Limits(records_per_s, commit_records, {})


def drained(drain: Drain, owed: list[LedgerEntry], interval_s: float = 3600) -> list[Taken]:
    found: list[Taken] = []

    def enough() -> bool:
        found[:] = drain.step(owed, Level.NORMAL, interval_s)
        return bool(found)

    wait_until(enough, "enough to commit")
    return found


pytestmark = pytest.mark.kafka


def test_of_each_range_what_is_owed_is_taken_and_nothing_else(log: Log) -> None:
    log.fill(100)
    owed = [log.entry(10, 31, "A"), log.entry(40, 50, "A", "B"), log.entry(5, 20, "B", partition=1)]
    drain = Drain(log.reader, limits())
    found = drained(drain, owed)
    assert [one.entry for one in found] == owed
    assert values(found[0]) == offsets(found[0]) == [number for number in range(10, 31) if number % 3 == 0]
    assert values(found[1]) == [number for number in range(40, 50) if number % 3 < 2]
    assert values(found[2]) == [number for number in range(5, 20) if number % 3 == 1]
    assert [(one.paid().end, one.paid().left()) for one in found] == [(31, None), (50, None), (20, None)]
    drain.close()


def test_what_grew_meanwhile_is_read_on_without_a_hole(log: Log) -> None:
    log.fill(100)
    first = log.entry(0, 50, "A")
    drain = Drain(log.reader, limits())
    [taken] = drained(drain, [first])
    assert taken.end == 50
    [taken] = drained(drain, [log.entry(0, 90, "A")])
    assert (taken.end, values(taken)) == (90, list(range(0, 90, 3)))


def test_what_grew_behind_the_last_one_read_is_paid_in_part(log: Log) -> None:
    log.fill(100)
    other = log.entry(0, 9, "B", partition=1)
    drain = Drain(log.reader, limits())
    drained(drain, [log.entry(0, 50, "A"), other])
    taken, _ = drained(drain, [log.entry(0, 90, "A"), other])
    assert (taken.end, values(taken)) == (50, list(range(0, 50, 3)))
    assert taken.paid().left() == replace(log.entry(50, 90, "A"), oldest_ms=taken.oldest_ms)


def test_growth_while_reading_is_no_hole_either(log: Log) -> None:
    log.fill(100)
    clock = count()
    drain = Drain(log.reader, limits(records_per_s=1), clock=lambda: float(next(clock)))
    grown = log.entry(0, 90, "A")
    found = drain.step([log.entry(0, 50, "A")], Level.NORMAL, 1e9) or drained(drain, [grown], 1e9)
    assert values(found[0]) == list(range(0, 90, 3))
    assert found[0].paid().left() is None


@pytest.mark.parametrize("change", ["start", "symbols", "gone"])
def test_what_changed_in_another_way_is_begun_anew(log: Log, change: str) -> None:
    log.fill(60)
    entry, other = log.entry(0, 30, "A"), log.entry(30, 40, "B", partition=1)
    drain = Drain(log.reader, limits())
    drained(drain, [entry, other])
    changed = {"start": [log.entry(9, 30, "A"), other], "symbols": [log.entry(0, 30, "B"), other], "gone": [other]}
    found = drained(drain, changed[change])
    assert [one.entry for one in found] == changed[change]
    assert [len(values(one)) for one in found] == [one.entry.records for one in found]


def test_a_range_that_lacks_something_is_refused_with_the_way_out(log: Log) -> None:
    log.fill(30)
    drain = Drain(log.reader, limits())
    [taken] = drained(drain, [log.entry(0, 30, "A", records=11)])
    with pytest.raises(StateError, match=rf"found 10 records of A.*expected the 11.*`k2 adopt-topic {log.topic}`"):
        taken.paid()


def test_a_range_that_left_the_log_is_refused(log: Log) -> None:
    log.fill(30)
    admin = AdminClient({"bootstrap.servers": log.kafka.bootstrap_servers})
    gone = TopicPartition(log.topic, 0, 10)
    admin.delete_records([gone])[gone].result(30)
    drain = Drain(log.reader, limits())
    with pytest.raises(StateError, match="no longer holds"):
        wait_until(lambda: drain.step([log.entry(5, 20, "A")], Level.NORMAL, 3600), "the refusal")


def test_the_rate_bounds_what_is_read_and_an_interval_what_is_waited_for(log: Log) -> None:
    log.fill(3_000)
    now = [0.0]
    drain = Drain(log.reader, limits(records_per_s=100), clock=lambda: now[0])
    entry = log.entry(0, 3_000, "A", "B")
    assert drain.step([entry], Level.NORMAL, 10) == []
    read: Callable[[], int] = lambda: sum(one.records for one in drain._taken)  # noqa: E731
    now[0] = 5.0  # a burst of one second's worth at most
    wait_until(lambda: drain.step([entry], Level.NORMAL, 10) or drain._budget < 1, "the budget to be spent")
    assert 50 < read() <= 100
    before = read()
    assert drain.step([entry], Level.NORMAL, 10) == []
    assert read() == before
    now[0] = 10.0
    [taken] = drain.step([entry], Level.NORMAL, 10)
    assert before < taken.records <= before + 100
    assert 0 < taken.end < 3_000
    left = taken.paid().left()
    assert left is not None
    assert left.records == entry.records - taken.records


def test_after_a_fault_it_rests(log: Log) -> None:
    log.fill(10)
    now = [0.0]
    drain = Drain(log.reader, limits(), clock=lambda: now[0])
    now[0] = 1.0
    drain.rest()
    now[0] += REST_S / 2
    for _ in range(3):
        assert drain.step([log.entry(0, 10, "A")], Level.NORMAL, 0) == []
    assert log.opened == []
    now[0] += REST_S
    drained(drain, [log.entry(0, 10, "A")])


def test_no_more_than_an_interval_brings_is_in_hand() -> None:
    bounds = Limits(20_000, 500_000, {TopicName("t"): 1_000_000})
    assert bounds.in_hand(10) == 200_000
    assert bounds.in_hand(0.01) == CHUNK_RECORDS
    assert bounds.in_hand(1e6) == 500_000
    assert bounds.urgent_before_ms(2_000_000) == {"t": 1_200_000}
    assert 0 < PASSED_OVER_COST < 1


def test_what_the_log_still_has_of_an_entry_is_counted(log: Log) -> None:
    log.fill(50)
    entry = log.entry(0, 50, "A")
    assert count_owed(log.reader(), entry, Offset(0)) == entry.records
    assert count_owed(log.reader(), entry, Offset(25)) == log.entry(25, 50, "A").records
