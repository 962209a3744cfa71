"""Kafka from the settings: client configuration, topics, ids and positions.

The one module of the core that talks to Kafka, to its admin API only; producers and consumers belong to services.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError, SetupError
from k2_core.types import Offset, Partition, TopicId, TopicName

ADMIN_TIMEOUT_S: Final = 15.0
"""Longer than a broker's fail-over to a new controller, shorter than a pod's patience for readiness."""

_RETRY_S: Final = 0.05

TOPIC_CONFIG: Final[Mapping[str, str]] = {"compression.type": "producer", "cleanup.policy": "delete"}
"""Stored as the producer compressed it: the broker spends no time on what lz4 did already."""

_REFUSALS: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,  # librdkafka's own faults have no other names
        KafkaError._INVALID_ARG,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_REQUEST,
        KafkaError.POLICY_VIOLATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.SECURITY_DISABLED,
        KafkaError.TOPIC_ALREADY_EXISTS,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNSUPPORTED_VERSION,
    }
)
"""What asking again does not change. Anything else passes: leaders and coordinators move, brokers come back."""

_STALE: Final = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)
METADATA_TIMEOUT_S: Final = 5.0

_log = logging.getLogger(__name__)


def client_config(settings: ServiceSettings, **more: object) -> dict[str, Any]:
    """Return librdkafka's configuration for these settings; keyword `fetch_wait_max_ms` becomes `fetch.wait.max.ms`."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "client.id": "k2",
    }
    if settings.kafka_ca_file is not None:
        config["ssl.ca.location"] = str(settings.kafka_ca_file)
    if settings.kafka_sasl_mechanism is not None:
        password = settings.kafka_sasl_password
        config |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_sasl_username or "",
            "sasl.password": password.get_secret_value() if password else "",
        }
    return config | {name.replace("_", "."): value for name, value in more.items()}


class KafkaAdmin:
    """What K2 asks of a cluster beyond records.

    Every method raises KafkaUnavailableError when no broker answers within `ADMIN_TIMEOUT_S`.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._client = AdminClient(client_config(settings), logger=_log)
        self._replication_factor = settings.kafka_replication_factor

    def cluster_id(self) -> str:
        """Return the cluster's id, which no other cluster has."""
        future = self._client.describe_cluster(request_timeout=ADMIN_TIMEOUT_S)
        return str(self._result(future).cluster_id)

    def ensure_topics(self, wanted: Mapping[TopicName, int], config: Mapping[str, str] = TOPIC_CONFIG) -> None:
        """Create the topics that are missing.

        Args:
            wanted: Partitions by name.
            config: Of topics that are created; existing ones keep theirs.

        Raises:
            SetupError: A topic has fewer partitions than wanted. They grow only through an epoch of the pipeline:
                more partitions move symbols, and a symbol's order would be lost.
        """
        new = [
            NewTopic(name, num_partitions=count, replication_factor=self._replication_factor, config=dict(config))
            for name, count in wanted.items()
        ]
        for future in self._client.create_topics(new, operation_timeout=ADMIN_TIMEOUT_S).values():
            try:
                self._result(future)
            except SetupError as error:
                cause = error.__cause__
                if not isinstance(cause, KafkaException) or cause.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        for name, (_, found) in self._await_topics(wanted).items():
            if found < wanted[name]:
                raise SetupError(f"topic {name}: found {found} partitions, expected at least {wanted[name]}")

    def _await_topics(self, names: Collection[TopicName]) -> dict[TopicName, tuple[TopicId, int]]:
        """Describe topics that exist: the broker that answers hears of a new one after the controller made it."""
        deadline_s = time.monotonic() + ADMIN_TIMEOUT_S
        while len(found := self.describe_topics(names)) < len(names):
            if time.monotonic() > deadline_s:
                missing = sorted(set(names) - found.keys())
                raise KafkaUnavailableError(f"found no broker that knows {missing}, expected one after their creation")
            time.sleep(_RETRY_S)
        return found

    def describe_topics(self, names: Iterable[TopicName]) -> dict[TopicName, tuple[TopicId, int]]:
        """Return id and number of partitions of each topic that exists."""
        found: dict[TopicName, tuple[TopicId, int]] = {}
        futures = self._client.describe_topics(TopicCollection(list(names)), request_timeout=ADMIN_TIMEOUT_S)
        for name, future in futures.items():
            try:
                description = self._result(future)
            except SetupError as error:
                cause = error.__cause__
                if isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue
                raise
            found[TopicName(name)] = (TopicId(str(description.topic_id)), len(description.partitions))
        return found

    def log_starts(self, topic: TopicName, partitions: Iterable[Partition]) -> dict[Partition, Offset]:
        """Return the first offset that each partition still has."""
        return self._offsets(topic, partitions, OffsetSpec.earliest())

    def stable_ends(self, topic: TopicName, partitions: Iterable[Partition]) -> dict[Partition, Offset]:
        """Return each partition's last stable offset: no open transaction lies before it."""
        return self._offsets(topic, partitions, OffsetSpec.latest())

    def group_offsets(self, group: str, topic: TopicName) -> dict[Partition, Offset]:
        """Return the positions that a consumer group wrote down; a partition without one is left out."""
        from confluent_kafka import ConsumerGroupTopicPartitions  # noqa: PLC0415  # only the lag needs it

        request = [ConsumerGroupTopicPartitions(group)]
        futures = self._client.list_consumer_group_offsets(request, request_timeout=ADMIN_TIMEOUT_S)
        answer = self._result(futures[group]).topic_partitions
        return {Partition(at.partition): Offset(at.offset) for at in answer if at.topic == topic and at.offset >= 0}

    def _offsets(self, topic: TopicName, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, Offset]:
        request = {TopicPartition(topic, partition): spec for partition in partitions}
        if not request:
            return {}
        futures = self._client.list_offsets(
            request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ADMIN_TIMEOUT_S
        )
        return {Partition(at.partition): Offset(self._result(future).offset) for at, future in futures.items()}

    def _result(self, future: Any) -> Any:  # confluent-kafka's futures are untyped
        try:
            return future.result(timeout=2 * ADMIN_TIMEOUT_S)
        except KafkaException as error:
            fault = error.args[0]
            if fault.code() in _REFUSALS:
                raise SetupError(f"Kafka refused: {fault.str()}") from error
            if fault.code() in _STALE:  # the client would go on asking with what it knows of a leader that is gone
                with contextlib.suppress(KafkaException):
                    self._client.list_topics(timeout=METADATA_TIMEOUT_S)
            raise KafkaUnavailableError(f"found {fault.str()}, expected an answer from Kafka") from error
        except TimeoutError as error:
            raise KafkaUnavailableError("found no answer from Kafka, expected one within its time") from error
