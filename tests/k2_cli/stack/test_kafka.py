"""k2_cli.stack.kafka against the real thing."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer

from k2_cli.stack.kafka import LocalKafka
from support.kafka import TopicFactory

pytestmark = pytest.mark.kafka


def test_a_message_goes_through(kafka: LocalKafka, topic_factory: TopicFactory) -> None:
    topic = topic_factory(partitions=2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True})
    producer.produce(topic, b"hello")
    assert producer.flush(10) == 0
    settings = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    try:
        consumer.subscribe([topic])
        message = consumer.poll(10)
        assert message is not None
        assert message.value() == b"hello"
    finally:
        consumer.close()
