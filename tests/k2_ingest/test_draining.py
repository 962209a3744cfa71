"""How a process ends, with a Kafka that takes the last records and with none."""

from __future__ import annotations

import logging

import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.types import Symbol, TopicName
from k2_ingest.draining import EXIT_OK, EXIT_UNACKNOWLEDGED, drain
from k2_ingest.producer import Destination, TradeProducer
from k2_ingest.settings import IngestSettings
from support.kafka import TopicFactory

pytestmark = pytest.mark.kafka


def with_three(servers: str, topic: str) -> TradeProducer:
    settings = IngestSettings(kafka_bootstrap_servers=servers)
    producer = TradeProducer(settings, Destination(TopicName(topic), 1, "a"), 1_000, lambda _: None)
    producer.account(Symbol("A")).received += 3
    producer.produce(Symbol("A"), [b"1", b"2", b"3"], 0)
    return producer


def test_all_is_in_the_log(kafka: LocalKafka, topic_factory: TopicFactory, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    producer = with_three(kafka.bootstrap_servers, topic_factory("trades", partitions=1))
    assert drain(producer, 30.0) == EXIT_OK
    assert [(line.message, line.__dict__["received"]) for line in caplog.records if "ingest stops" in line.message] == [
        ("ingest stops, all is in the log", 3)
    ]


def test_what_nobody_acknowledged_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    assert drain(with_three("127.0.0.1:9", "t"), 0.01) == EXIT_UNACKNOWLEDGED
    [line] = [line for line in caplog.records if "has not acknowledged" in line.message]
    assert (line.__dict__["received"], line.__dict__["unacknowledged"]) == (3, 3)
