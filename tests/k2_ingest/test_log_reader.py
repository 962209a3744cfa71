"""Bounded reads of a real log."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import KafkaUnavailableError
from k2_core.types import Partition, TopicName
from k2_ingest import log_reader
from k2_ingest.log_reader import LogReader
from k2_ingest.settings import IngestSettings
from support.kafka import TopicFactory

pytestmark = pytest.mark.kafka

FIRST = Partition(0)


@pytest.fixture
def topic(kafka: LocalKafka, topic_factory: TopicFactory) -> TopicName:
    """One partition with five messages, `0` to `4`."""
    name = TopicName(topic_factory("trades", partitions=1))
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for number in range(5):
        producer.produce(name, str(number).encode(), partition=0)
    producer.flush()
    producer.close()
    return name


@pytest.fixture
def settings(kafka: LocalKafka) -> IngestSettings:
    return IngestSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)


def test_what_lies_between_two_offsets(settings: IngestSettings, topic: TopicName) -> None:
    with LogReader(settings) as reader:
        assert reader.bounds(topic, FIRST) == (0, 5)
        assert [message.value() for message in reader.read(topic, FIRST, 1, 3)] == [b"1", b"2"]
        assert [message.value() for message in reader.read(topic, FIRST, 4, 5)] == [b"4"]
        assert reader.read(topic, FIRST, 3, 3) == []


def test_an_absent_broker_is_an_error(topic: TopicName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "READ_TIMEOUT_S", 0.1)
    monkeypatch.setattr(log_reader, "OFFSETS_TIMEOUT_S", 0.2)
    with (
        LogReader(IngestSettings(kafka_bootstrap_servers="127.0.0.1:9")) as reader,
        pytest.raises(KafkaUnavailableError, match="expected offsets"),
    ):
        reader.bounds(topic, FIRST)


def test_a_log_that_does_not_answer_in_time_is_an_error(
    settings: IngestSettings, topic: TopicName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "READ_TIMEOUT_S", 0.0)
    with LogReader(settings) as reader, pytest.raises(KafkaUnavailableError, match="expected to reach 5"):
        reader.read(topic, FIRST, 0, 5)


def test_a_log_that_retention_has_cut_meanwhile_is_an_error(settings: IngestSettings, topic: TopicName) -> None:
    with LogReader(settings) as reader, pytest.raises(KafkaUnavailableError, match="expected a record"):
        reader.read(topic, FIRST, 10, 20)
