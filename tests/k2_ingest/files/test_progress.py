"""What a real log has of datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from k2_cli.stack.kafka import LocalKafka
from k2_core.intervals import IntervalSet
from k2_core.kafka import KafkaAdmin
from k2_core.schemas import PackagedSchemas
from k2_core.topics import dead_letter_topic, partition_of
from k2_core.types import Symbol, TopicName
from k2_ingest.files import progress
from k2_ingest.files.asx import Parsed
from k2_ingest.files.encode import Dataset, RowEncoder
from k2_ingest.files.progress import LogProgress, Progress
from k2_ingest.settings import IngestSettings
from support.kafka import TopicFactory

pytestmark = pytest.mark.kafka

BHP, DVN = Symbol("BHP"), Symbol("DVN")
PARTITIONS = 3
Fill = Callable[[str, str, range], None]


@pytest.fixture
def settings(kafka: LocalKafka) -> IngestSettings:
    return IngestSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
def topic(settings: IngestSettings, topic_factory: TopicFactory) -> TopicName:
    name = TopicName(topic_factory("trades", partitions=PARTITIONS))
    KafkaAdmin(settings).ensure_topics({dead_letter_topic(name): 1})
    return name


@pytest.fixture
def producer(kafka: LocalKafka) -> Iterator[Producer]:
    made = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    yield made
    made.flush()
    made.close()


@pytest.fixture
def fill(producer: Producer, topic: TopicName) -> Fill:
    def write(dataset: str, digest: str, rows: range) -> None:
        numbers = list(rows)
        ones, times = [1] * len(numbers), [10**15] * len(numbers)
        encoder = RowEncoder(Dataset(dataset, "asx", "equities", BHP), digest)
        for value in encoder.encode(Parsed(numbers, ones, ones, times, [()] * len(numbers)), 10**15):
            producer.produce(topic, value, partition=partition_of(BHP, PARTITIONS))
        producer.flush()

    return write


@pytest.fixture
def look(settings: IngestSettings, topic: TopicName) -> LogProgress:
    return LogProgress(settings, topic, PARTITIONS, PackagedSchemas())


def test_an_empty_log_has_nothing(look: LogProgress) -> None:
    assert look.of({"asx.a": BHP, "asx.b": DVN}) == {"asx.a": Progress(), "asx.b": Progress()}


def test_each_dataset_stands_at_its_last_row(look: LogProgress, fill: Fill) -> None:
    fill("asx.a", "d1", range(1, 6))
    fill("asx.b", "d2", range(1, 3))
    fill("asx.other", "d3", range(1, 9))
    found = look.of({"asx.a": BHP, "asx.b": BHP, "asx.new": BHP})
    assert found == {"asx.a": Progress(5, "d1"), "asx.b": Progress(2, "d2"), "asx.new": Progress()}


def test_what_lies_far_back_is_found_and_the_last_row_counts(
    look: LogProgress, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "STEP", 4)
    fill("asx.a", "d1", range(1, 11))
    fill("asx.b", "d2", range(1, 11))
    assert look.of({"asx.a": BHP, "asx.b": BHP}) == {"asx.a": Progress(10, "d1"), "asx.b": Progress(10, "d2")}


def test_rows_without_a_digest_have_none(look: LogProgress, fill: Fill, producer: Producer, topic: TopicName) -> None:
    fill("asx.a", "d1", range(1, 2))
    producer.produce(topic, b"not avro", partition=partition_of(BHP, PARTITIONS))
    producer.flush()
    assert look.of({"asx.a": BHP}) == {"asx.a": Progress(1, "d1")}


def test_dead_letters_are_known_by_dataset_version_and_row(
    look: LogProgress, producer: Producer, topic: TopicName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "STEP", 2)

    def letter(**headers: bytes) -> None:
        named: list[tuple[str, str | bytes | None]] = [(f"k2.{name}", value) for name, value in headers.items()]
        producer.produce(dead_letter_topic(topic), b"line", headers=named)
        producer.flush()

    for row in (b"3", b"4", b"9"):
        letter(dataset=b"asx.a", digest=b"d1", row=row)
    letter(dataset=b"asx.a", digest=b"d2", row=b"1")
    letter(dataset=b"asx.b", digest=b"d1", row=b"7")
    letter(reason=b"conflict", partition=b"0", offset=b"12")
    letter(dataset=b"asx.a", digest=b"d1", row=b"-1")
    producer.produce(dead_letter_topic(topic), b"line")
    producer.flush()
    letters = {"d1": IntervalSet.of_ranges([(3, 5), (9, 10)]), "d2": IntervalSet.of_ranges([(1, 2)])}
    assert look.of({"asx.a": BHP}) == {"asx.a": Progress(0, None, letters)}
