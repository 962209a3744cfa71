"""Reading on a real Kafka: chunks with their positions, ends, seeks, several topics, and faults that lose nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import K2Error, KafkaUnavailableError, SetupError, StateError
from k2_core.types import Offset, Partition, TopicName
from k2_sink.batch import Chunk
from k2_sink.consumer import LogReader, Ownership, translated
from k2_sink.protocol import LogPartition
from k2_sink.settings import SinkSettings
from support.kafka import TopicFactory
from support.waiting import wait_until

pytestmark = pytest.mark.kafka
Values = dict[LogPartition, list[tuple[int, bytes | None]]]


def fill(kafka: LocalKafka, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for number in range(count):
        producer.produce(topic, value=b"%d" % number, partition=number % 2)
    assert producer.flush(30) == 0


@contextmanager
def reading(
    kafka: LocalKafka, *topics: str, starts: Mapping[LogPartition, Offset] | K2Error | None = None
) -> Iterator[LogReader]:
    def taken(partitions: list[LogPartition]) -> Mapping[LogPartition, Offset]:
        if isinstance(starts, K2Error):
            raise starts
        return {at: (starts or {}).get(at, Offset(0)) for at in partitions}

    settings = SinkSettings.model_validate({"kafka_bootstrap_servers": kafka.bootstrap_servers})
    ownership = Ownership(taken, lambda _: None, lambda _: None)
    reader = LogReader(settings, f"group-{topics[0]}", [TopicName(topic) for topic in topics], ownership)
    try:
        yield reader
    finally:
        reader.close()


def collect(reader: LogReader, count: int) -> tuple[Values, dict[LogPartition, Offset]]:
    found: Values = {}
    ends: dict[LogPartition, Offset] = {}

    def enough() -> bool:
        read = reader.read(10_000, 0.1)
        for chunk in read.chunks:
            rows = zip(chunk.partitions.tolist(), chunk.offsets.tolist(), chunk.values, strict=True)
            for partition, offset, value in rows:
                found.setdefault((chunk.topic, Partition(partition)), []).append((offset, value))
        ends.update(read.ends)
        return sum(map(len, found.values())) >= count and len(ends) >= len(found)

    wait_until(enough, f"{count} records and the ends")
    return found, ends


def test_values_come_with_their_positions_and_ends_are_told(kafka: LocalKafka, topic_factory: TopicFactory) -> None:
    topic = TopicName(topic_factory(partitions=2))
    fill(kafka, topic, 10)
    with reading(kafka, topic) as reader:
        found, ends = collect(reader, 10)
        owned = [(topic, Partition(0)), (topic, Partition(1))]
        assert reader.unread({owned[0]: Offset(5), owned[1]: Offset(2)}) == {owned[0]: 0, owned[1]: 3}
    assert found == {
        (topic, partition): [(number // 2, b"%d" % number) for number in range(partition, 10, 2)]
        for partition in (0, 1)
    }
    assert ends == {(topic, 0): 5, (topic, 1): 5}


def test_keys_and_times_come_only_where_they_are_asked_for(kafka: LocalKafka, topic_factory: TopicFactory) -> None:
    topic = TopicName(topic_factory(partitions=1))
    before_ms = int(time.time() * 1000)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True})
    for number in range(6):
        producer.produce(topic, b"%d" % number, key=b"K%d" % number, timestamp=before_ms + number)
    assert producer.flush(30) == 0

    def chunk(*, keys: bool, times: bool) -> list[Chunk]:
        found: list[Chunk] = []

        def read(reader: LogReader) -> list[Chunk]:
            found.extend(reader.read(10, 0.1, keys=keys, times=times).chunks)
            return found

        with reading(kafka, topic) as reader:
            wait_until(lambda: read(reader), "a chunk")
        return found

    for keys, times in ((False, False), (True, False), (True, True)):
        found = chunk(keys=keys, times=times)
        assert (found[0].keys is not None, found[0].times_ms is not None) == (keys, times)
        if keys:
            assert found[0].first_ms == {0: before_ms}
        if found[0].times_ms is not None:
            assert found[0].times_ms.tolist() == [before_ms + number for number in range(len(found[0].values))]
            assert found[0].keys == [b"K%d" % number for number in range(len(found[0].values))]


def test_several_topics_come_apart(kafka: LocalKafka, topic_factory: TopicFactory) -> None:
    topics = [TopicName(topic_factory(partitions=2)) for _ in range(2)]
    for topic in topics:
        fill(kafka, topic, 6)
    with reading(kafka, *topics) as reader:
        found, _ = collect(reader, 12)
    assert {at: len(values) for at, values in found.items()} == {
        (topic, partition): 3 for topic in topics for partition in (0, 1)
    }


def test_reading_goes_on_where_it_is_told_to(kafka: LocalKafka, topic_factory: TopicFactory) -> None:
    topic = TopicName(topic_factory(partitions=2))
    fill(kafka, topic, 10)
    starts = {(topic, Partition(0)): Offset(3), (topic, Partition(1)): Offset(4)}
    with reading(kafka, topic, starts=starts) as reader:
        found, _ = collect(reader, 3)
        assert {at: [offset for offset, _ in values] for at, values in found.items()} == {
            (topic, 0): [3, 4],
            (topic, 1): [4],
        }
        reader.seek({(topic, Partition(0)): Offset(1)})
        again, _ = collect(reader, 4)
        assert [offset for offset, _ in again[topic, Partition(0)]] == [1, 2, 3, 4]


def test_what_is_held_is_not_read_and_goes_on_where_it_is_told_to(
    kafka: LocalKafka, topic_factory: TopicFactory
) -> None:
    topic = TopicName(topic_factory(partitions=2))
    held, other = (topic, Partition(0)), (topic, Partition(1))
    fill(kafka, topic, 10)
    with reading(kafka, topic) as reader:
        collect(reader, 10)
        reader.hold({held}, {})
        fill(kafka, topic, 10)
        found, _ = collect(reader, 5)
        assert {at: [offset for offset, _ in values] for at, values in found.items()} == {other: [5, 6, 7, 8, 9]}
        reader.hold({held}, {})
        assert reader.read(100, 0.2).chunks == []
        reader.hold(frozenset(), {held: Offset(3), other: Offset(0)})  # the other was not held: it stays where it is
        found, _ = collect(reader, 7)
        assert {at: [offset for offset, _ in values] for at, values in found.items()} == {held: list(range(3, 10))}
        reader.hold(None, {})
        fill(kafka, topic, 4)
        assert reader.read(100, 0.2).chunks == []
        reader.hold({other}, {held: Offset(10)})
        found, _ = collect(reader, 2)
        assert {at: [offset for offset, _ in values] for at, values in found.items()} == {held: [10, 11]}


def test_an_offset_that_the_log_no_longer_has_is_a_state_error(kafka: LocalKafka, topic_factory: TopicFactory) -> None:
    topic = TopicName(topic_factory(partitions=2))
    fill(kafka, topic, 10)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    gone = TopicPartition(topic, 0, 4)
    admin.delete_records([gone])[gone].result(30)
    with reading(kafka, topic) as reader, pytest.raises(StateError, match="no longer holds"):
        wait_until(lambda: reader.read(100, 0.1) is None, "the error")


@pytest.mark.parametrize("error", [StateError("no way"), KafkaUnavailableError("later")], ids=["state", "retryable"])
def test_what_taking_a_partition_raises_is_raised_by_read(
    kafka: LocalKafka, topic_factory: TopicFactory, error: K2Error
) -> None:
    topic = topic_factory(partitions=2)
    with reading(kafka, topic, starts=error) as reader, pytest.raises(type(error), match=str(error)):
        wait_until(lambda: reader.read(100, 0.1) is None, "the error")


def test_read_positions_are_written_to_the_group_once_a_second(kafka: LocalKafka, topic_factory: TopicFactory) -> None:
    topic = TopicName(topic_factory(partitions=2))
    fill(kafka, topic, 4)
    at = (topic, Partition(0))
    with reading(kafka, topic) as reader:
        collect(reader, 4)
        reader.write_offsets({}, lambda: "nothing")
        reader.write_offsets({at: Offset(2)}, lambda: "told")
        reader.write_offsets({at: Offset(1)}, lambda: "again")  # within the same second: passed over
        reader.read(1, 0.5)
        committed = reader._consumer.committed([TopicPartition(topic, 0)], timeout=20)
    assert [(found.offset, found.metadata) for found in committed] == [(2, "told")]


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        pytest.param(KafkaError.OFFSET_OUT_OF_RANGE, StateError, "`k2 adopt-topic t`", id="lost"),
        pytest.param(KafkaError.UNKNOWN_TOPIC_OR_PART, StateError, "the topic is gone", id="gone"),
        pytest.param(KafkaError.TOPIC_AUTHORIZATION_FAILED, SetupError, "may not be read", id="denied"),
        pytest.param(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaUnavailableError, "expected records", id="not now"),
    ],
)
def test_what_kafka_says_in_place_of_a_record(code: int, kind: type[K2Error], says: str) -> None:
    error = translated((TopicName("t"), Partition(1)), KafkaError(code))
    assert type(error) is kind
    assert says in str(error)
    assert "topic t partition 1" in str(error)
