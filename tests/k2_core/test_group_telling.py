"""What a service tells, read back from a real Kafka; and that no broker stops nobody."""

from __future__ import annotations

import logging
import uuid
from functools import partial

import pytest
from confluent_kafka.admin import AdminClient

import k2_core.kafka
from k2_cli.stack.kafka import LocalKafka
from k2_core.config import ServiceSettings
from k2_core.group_telling import GroupTelling
from k2_core.kafka import KafkaAdmin
from k2_core.types import Partition, TopicName
from support.waiting import wait_until

pytestmark = pytest.mark.kafka


def test_the_newest_word_stands_in_its_place(kafka: LocalKafka) -> None:
    admin = KafkaAdmin(ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_replication_factor=1))
    topic = TopicName(f"telling_{uuid.uuid4().hex[:8]}")
    admin.ensure_topics({topic: 3})
    group = f"{topic}.words"
    try:
        tellings = [GroupTelling(admin, group, (topic, Partition(at)), "a word") for at in (0, 2)]
        for word in ("first", "second"):
            for telling in tellings:
                wait_until(partial(telling.tell, f"{word} of {telling._place[1]}"), "room for a word")
        wait_until(lambda: set(admin.group_words(group)) == {"second of 0", "second of 2"}, "the words")
        assert {at: text for at, (_, text) in admin.group_signals(group, topic).items()} == {
            0: "second of 0",
            2: "second of 2",
        }
        assert admin.group_words(f"{group}.other") == []
    finally:
        client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        client.delete_topics([topic])[topic].result(20)


def test_no_broker_is_said_once_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(k2_core.kafka, "ADMIN_TIMEOUT_S", 2.0)  # no stall is as long as the first of these words takes
    away = KafkaAdmin(ServiceSettings(kafka_bootstrap_servers="127.0.0.1:1"))
    telling = GroupTelling(away, "k2.test.engine", (TopicName("t"), Partition(0)), "a word")
    with caplog.at_level(logging.WARNING, "k2_core.group_telling"):
        assert [telling.tell("x") for _ in range(100)].count(True) == 1  # whoever waited would be heard each time
        wait_until(lambda: len(caplog.records) == 1, "the line")
        wait_until(lambda: telling.tell("y"), "another try")
        wait_until(lambda: telling.tell("z"), "the end of that")
    assert [record.getMessage() for record in caplog.records] == ["a word: not told to the operator"]
