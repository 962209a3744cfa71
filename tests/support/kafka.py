"""The session's Kafka and topics for tests; the fixtures themselves are in tests/conftest.py."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from confluent_kafka.cimpl import NewTopic

from k2_cli.stack.kafka import LocalKafka
from support.lacking import needed

_ADMIN_TIMEOUT_S = 20.0


def start_or_skip(kafka: LocalKafka) -> None:
    """Starts the broker; a machine that cannot is a failure under CI, else a skip that says what is missing."""
    with needed("the local Kafka"):
        kafka.start()


@dataclass
class TopicFactory:
    """Makes topics that no other test sees, and deletes them at the end of the test.

    Args:
        bootstrap_servers: The broker, `host:port`.
    """

    bootstrap_servers: str
    _made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})

    def __call__(
        self, name: str = "test", *, partitions: int = 1, config: Mapping[str, str | int] | None = None
    ) -> str:
        """Creates `<name>-<random>` and returns its name once it has leaders for all partitions.

        Args:
            name: Start of the topic's name, for people who read logs.
            partitions: Number of partitions.
            config: Topic settings (`{"cleanup.policy": "compact"}`).
        """
        topic = f"{name}-{uuid.uuid4().hex[:12]}"
        settings = {key: str(value) for key, value in (config or {}).items()}
        request = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=settings)
        self._admin.create_topics([request], operation_timeout=_ADMIN_TIMEOUT_S)[topic].result(_ADMIN_TIMEOUT_S)
        self._made.append(topic)
        asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}
        deadline_s = time.monotonic() + _ADMIN_TIMEOUT_S
        while not self._led(asked):  # the controller knows of the topic before the broker leads it
            assert time.monotonic() < deadline_s, f"{topic}: found no leaders within {_ADMIN_TIMEOUT_S:g} s"
            time.sleep(0.02)
        return topic

    def _led(self, asked: Mapping[TopicPartition, OffsetSpec]) -> bool:
        try:
            for answer in self._admin.list_offsets(dict(asked)).values():
                answer.result(_ADMIN_TIMEOUT_S)
        except KafkaException:
            self._admin.list_topics(timeout=_ADMIN_TIMEOUT_S)  # else it goes on asking with what it knows
            return False
        return True

    def cluster_id(self) -> str:
        """Id that the broker's data was formatted with."""
        return str(self._admin.list_topics(timeout=_ADMIN_TIMEOUT_S).cluster_id)

    def delete_all(self) -> None:
        """Deletes what this factory made and a test has not deleted itself."""
        present = set(self._admin.list_topics(timeout=_ADMIN_TIMEOUT_S).topics)
        if leftover := [topic for topic in self._made if topic in present]:
            for deletion in self._admin.delete_topics(leftover, operation_timeout=_ADMIN_TIMEOUT_S).values():
                deletion.result(_ADMIN_TIMEOUT_S)
        self._made.clear()
