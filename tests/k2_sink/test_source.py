"""The sink's topics on a real broker: made, described, and where they begin and end."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from k2_cli.stack.kafka import LocalKafka
from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError, SetupError
from k2_core.kafka import KafkaAdmin
from k2_core.topics import dead_letter_topic
from k2_core.types import Partition, TopicName
from k2_sink.protocol import LogPartition
from k2_sink.source import Source
from support.waiting import wait_until

pytestmark = pytest.mark.kafka
WEEK_MS = 7 * 24 * 3600 * 1000
"""Kafka's default."""


def has_leaders(source: Source, wanted: list[LogPartition]) -> bool:
    try:
        source.log_starts(wanted)
        source.stable_ends(wanted)
    except KafkaUnavailableError:  # brokers hear of new topics late
        return False
    return True


def test_topics_are_made_and_their_bounds_told(kafka: LocalKafka) -> None:
    admin = KafkaAdmin(ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers))
    names = [TopicName(f"source-{uuid.uuid4().hex[:8]}") for _ in range(2)]
    source = Source.open(admin, dict.fromkeys(names, 2))
    described = admin.describe_topics([*names, *map(dead_letter_topic, names)])
    assert len(described) == 4
    assert source.topic_ids == {name: described[name][0] for name in names}
    assert source.retention_ms == dict.fromkeys(names, WEEK_MS)
    assert not source.forgets_within(7 * 24)
    assert source.forgets_within(7 * 24 + 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for _ in range(5):
        producer.produce(names[0], value=b"x", partition=1)
    assert producer.flush(30) == 0
    gone = TopicPartition(names[0], 1, 2)
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    client.delete_records([gone])[gone].result(30)
    wanted = [(names[0], Partition(1)), (names[1], Partition(0))]
    wait_until(lambda: has_leaders(source, wanted), "leaders of new topics")
    assert source.log_starts(wanted) == {wanted[0]: 2, wanted[1]: 0}
    assert source.stable_ends(wanted) == {wanted[0]: 5, wanted[1]: 0}


def test_a_retention_that_may_not_be_read_is_not_known(kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = KafkaAdmin(ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers))

    def denied(_topics: object) -> dict[TopicName, int]:
        raise SetupError("Kafka refused")

    monkeypatch.setattr(admin, "retention_ms", denied)
    assert Source.open(admin, {TopicName(f"source-{uuid.uuid4().hex[:8]}"): 1}).retention_ms == {}
