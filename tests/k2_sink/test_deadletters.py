"""Dead letters on a real Kafka: durable when flushed, kept when not, told apart by position."""

from __future__ import annotations

import os

import pytest

from k2_cli.stack import ports
from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError
from k2_core.topics import DETAIL_HEADER, TOPIC_ID_HEADER, dead_letter_topic
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_sink import deadletters
from k2_sink.batch import DeadLetter
from k2_sink.deadletters import MAX_DETAIL_CHARACTERS, DeadLetterProducer
from support.ingest import read_topic
from support.sink import SinkWorkspace


def letter(topic: str, offset: int) -> DeadLetter:
    return DeadLetter(TopicName(topic), Partition(3), Offset(offset), b"bytes %d" % offset, "truncated", "found 7")


@pytest.mark.kafka
def test_letters_are_in_the_topic_when_flush_returns_and_dropped_ones_are_not(work: SinkWorkspace) -> None:
    producer = DeadLetterProducer(work.settings, {work.topic: TopicId("an id")})
    producer.flush()
    producer.send([letter(work.topic, 1)])
    producer.drop()
    producer.send([letter(work.topic, number) for number in range(5, 8)])
    producer.flush()
    producer.flush()
    found = read_topic(work.bootstrap_servers, dead_letter_topic(work.topic))
    assert [message.value() for message in found] == [b"bytes 5", b"bytes 6", b"bytes 7"]
    assert [dict(message.headers() or [])[TOPIC_ID_HEADER] for message in found] == [b"an id"] * 3
    assert [message.key() for message in found] == [f"{work.topic}/3/{number}".encode() for number in range(5, 8)]


@pytest.mark.kafka
def test_a_letter_as_large_as_a_record_may_be_is_taken_with_its_detail_cut(work: SinkWorkspace) -> None:
    producer = DeadLetterProducer(work.settings, {work.topic: TopicId("an id")})
    value = b"x" * 1_000_000
    producer.send([DeadLetter(work.topic, Partition(0), Offset(0), value, "malformed", "y" * 200_000)])
    producer.flush()
    (found,) = read_topic(work.bootstrap_servers, dead_letter_topic(work.topic))
    assert found.value() == value
    assert dict(found.headers() or [])[DETAIL_HEADER] == b"y" * MAX_DETAIL_CHARACTERS


@pytest.mark.kafka
def test_a_letter_that_the_broker_refuses_is_an_error_and_kept(work: SinkWorkspace) -> None:
    producer = DeadLetterProducer(work.settings, {work.topic: TopicId("an id")})
    producer.send([DeadLetter(work.topic, Partition(0), Offset(0), os.urandom(3_000_000), "malformed", "")])
    for _ in range(2):
        with pytest.raises(KafkaUnavailableError, match="dead letters"):
            producer.flush()


def test_no_broker_is_an_error_and_the_letters_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletters, "FLUSH_TIMEOUT_S", 0.5)
    port = ports.find_free("no broker")
    away = ServiceSettings.model_validate({"kafka_bootstrap_servers": f"127.0.0.1:{port}"})
    producer = DeadLetterProducer(away, {TopicName("t"): TopicId("an id")})
    producer.send([letter("t", 1)])
    for _ in range(2):
        with pytest.raises(KafkaUnavailableError, match="1 unacknowledged"):
            producer.flush()
