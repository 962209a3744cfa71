"""What a query service tells of its Trino, read back from a real Kafka; and that no broker stops nobody."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from confluent_kafka.admin import AdminClient

from k2_cli.stack.kafka import LocalKafka
from k2_core.config import ServiceSettings
from k2_core.errors import EngineError, EngineUnavailableError, K2Error, RetryableError, StateError
from k2_core.kafka import KafkaAdmin
from k2_core.service_report import ServiceReport
from k2_core.types import Partition, TopicName
from k2_query.telling import EngineTelling

pytestmark = pytest.mark.kafka
AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def topic(kafka: LocalKafka) -> Iterator[TopicName]:
    name = TopicName(f"telling_{uuid.uuid4().hex[:8]}")
    admin = KafkaAdmin(settings(kafka))
    admin.ensure_topics({name: 3})
    yield name
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    client.delete_topics([name])[name].result(20)


def settings(kafka: LocalKafka) -> ServiceSettings:
    return ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_replication_factor=1)


def wait(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def reports(admin: KafkaAdmin, group: str, topic: TopicName) -> dict[Partition, ServiceReport | None]:
    found = admin.group_signals(group, topic)
    return {at: ServiceReport.parse(metadata) for at, (_, metadata) in found.items()}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "Answers"),
        (EngineError("found the credentials refused"), "Refused"),
        (EngineUnavailableError("found no connection"), "Unreachable"),
        (RetryableError("found no end after 8 s"), "Slow"),
        (StateError("found something else"), "NotAnswering"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_question_found_stands_in_the_group(
    kafka: LocalKafka, topic: TopicName, error: K2Error | None, reason: str
) -> None:
    admin, group = KafkaAdmin(settings(kafka)), f"{topic}.engine"
    EngineTelling(admin, group, {topic: 3}, "me", lambda: AT).tell(error)
    wait(lambda: bool(reports(admin, group, topic)))
    [found] = reports(admin, group, topic).values()
    assert found == ServiceReport("me", AT, reason, None if error is None else str(error))


def test_services_write_to_places_of_their_own(kafka: LocalKafka, topic: TopicName) -> None:
    admin, group = KafkaAdmin(settings(kafka)), f"{topic}.engine"
    names = ("a", "b", "c", "d", "e", "f")
    for name in names:
        EngineTelling(admin, group, {topic: 3}, name).tell(None)
    wait(lambda: len(reports(admin, group, topic)) > 1)
    assert {one.service for one in reports(admin, group, topic).values() if one} <= set(names)
