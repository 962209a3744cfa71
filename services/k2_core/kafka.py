"""Kafka from the settings: client configuration, topics, ids and positions.

The one module of the core that talks to Kafka, to its admin API only; producers and consumers belong to services.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError, SetupError, SpecError
from k2_core.types import Offset, Partition, TopicId, TopicName

ADMIN_TIMEOUT_S: Final = 15.0
"""Longer than a broker's fail-over to a new controller, shorter than a pod's patience for readiness."""

_RETRY_S: Final = 0.05
RETENTION: Final = "retention.ms"
RETENTION_BYTES: Final = "retention.bytes"

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
        KafkaError.TOPIC_DELETION_DISABLED,
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

_unheard = logging.getLogger(f"{__name__}.client")
_unheard.setLevel(logging.CRITICAL + 1)
"""The client logs each of its attempts; what keeps it from answering is in the error that a call raises."""


def client_config(settings: ServiceSettings, **more: object) -> dict[str, Any]:
    """Return librdkafka's configuration for these settings; keyword `fetch_wait_max_ms` becomes `fetch.wait.max.ms`.

    Raises:
        SpecError: The CA's file cannot be used, or SASL is asked for without mechanism, user or password.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "client.id": "k2",
    }
    if settings.kafka_ca_file is not None and "SSL" in settings.kafka_security_protocol.split("_"):
        config["ssl.ca.location"] = _checked_ca(settings.kafka_ca_file)
    if settings.kafka_security_protocol.startswith("SASL"):
        config |= _sasl(settings)
    return config | {name.replace("_", "."): value for name, value in more.items()}


def _checked_ca(path: Path) -> str:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # a file without certificates, too
        raise SpecError("K2_KAFKA_CA_FILE", f"{path} ({error})", "a PEM file of certificates") from error
    return str(path)


def _sasl(settings: ServiceSettings) -> dict[str, str]:
    password = settings.kafka_sasl_password
    given = {
        "K2_KAFKA_SASL_MECHANISM": settings.kafka_sasl_mechanism,
        "K2_KAFKA_SASL_USERNAME": settings.kafka_sasl_username,
        "K2_KAFKA_SASL_PASSWORD": password.get_secret_value() if password else None,
    }
    for name, value in given.items():
        if not value:
            raise SpecError(name, "none", f"a value for {settings.kafka_security_protocol}")
    return dict(zip(("sasl.mechanism", "sasl.username", "sasl.password"), map(str, given.values()), strict=True))


class KafkaAdmin:
    """What K2 asks of a cluster beyond records.

    Every method raises KafkaUnavailableError when no broker answers within `ADMIN_TIMEOUT_S`.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self._last_error: str | None = None
        self._where = f"at {settings.kafka_bootstrap_servers} over {settings.kafka_security_protocol}"
        self._client = AdminClient(client_config(settings) | {"error_cb": self._note}, logger=_unheard)
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

    def retention_ms(self, topics: Iterable[TopicName]) -> dict[TopicName, int]:
        """Return for how long each topic keeps records; one that keeps them for ever is left out.

        Raises:
            SetupError: The configuration may not be read.
        """
        return self._limits(topics, RETENTION)

    def retention_bytes(self, topics: Iterable[TopicName]) -> dict[TopicName, int]:
        """Return how many bytes each topic keeps of a partition, its own or the broker's; a topic without is left out.

        Raises:
            SetupError: The configuration may not be read.
        """
        return self._limits(topics, RETENTION_BYTES)

    def _limits(self, topics: Iterable[TopicName], config: str) -> dict[TopicName, int]:
        wanted = {ConfigResource(ConfigResource.Type.TOPIC, name): name for name in topics}
        if not wanted:
            return {}
        futures = self._client.describe_configs(list(wanted), request_timeout=ADMIN_TIMEOUT_S)
        found = {wanted[resource]: int(self._result(future)[config].value) for resource, future in futures.items()}
        return {name: limit for name, limit in found.items() if limit >= 0}

    def log_starts(self, topic: TopicName, partitions: Iterable[Partition]) -> dict[Partition, Offset]:
        """Return the first offset that each partition still has."""
        return self._offsets(topic, partitions, OffsetSpec.earliest())

    def stable_ends(self, topic: TopicName, partitions: Iterable[Partition]) -> dict[Partition, Offset]:
        """Return each partition's last stable offset: no open transaction lies before it."""
        return self._offsets(topic, partitions, OffsetSpec.latest())

    def group_offsets(self, group: str, topic: TopicName) -> dict[Partition, Offset]:
        """Return the positions that a consumer group wrote down; a partition without one is left out."""
        return {at: offset for at, (offset, _) in self.group_signals(group, topic).items()}

    def group_signals(self, group: str, topic: TopicName) -> dict[Partition, tuple[Offset, str | None]]:
        """Return the positions that a group wrote down, each with the metadata that was written with it."""
        request = [ConsumerGroupTopicPartitions(group)]
        futures = self._client.list_consumer_group_offsets(request, request_timeout=ADMIN_TIMEOUT_S)
        answer = self._result(futures[group]).topic_partitions
        found = [at for at in answer if at.topic == topic and at.offset >= 0]
        return {Partition(at.partition): (Offset(at.offset), at.metadata) for at in found}

    def group_words(self, group: str) -> list[str]:
        """Return the metadata that stands beside all positions of a group, in no order; empty ones are left out."""
        request = [ConsumerGroupTopicPartitions(group)]
        futures = self._client.list_consumer_group_offsets(request, request_timeout=ADMIN_TIMEOUT_S)
        return [at.metadata for at in self._result(futures[group]).topic_partitions if at.metadata]

    def group_members(self, group: str) -> tuple[int, ConsumerGroupState]:
        """Return how many members a group has, and its state; a group that nobody ever joined is DEAD."""
        futures = self._client.describe_consumer_groups([group], request_timeout=ADMIN_TIMEOUT_S)
        description = self._result(futures[group])
        return len(description.members), description.state

    def write_group_signals(
        self, group: str, signals: Mapping[tuple[TopicName, Partition], tuple[Offset, str]]
    ) -> Future[object]:
        """Write positions, each with metadata, to a group that nobody is a member of, without waiting.

        Returns:
            Done when the group's coordinator has answered; an exception in it says why nothing was written.
        """
        offsets = [
            TopicPartition(topic, partition, offset, metadata)
            for (topic, partition), (offset, metadata) in signals.items()
        ]
        request = [ConsumerGroupTopicPartitions(group, offsets)]
        futures = self._client.alter_consumer_group_offsets(request, request_timeout=ADMIN_TIMEOUT_S)
        written: Future[object] = futures[group]
        return written

    def _offsets(self, topic: TopicName, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, Offset]:
        request = {TopicPartition(topic, partition): spec for partition in partitions}
        if not request:
            return {}
        futures = self._client.list_offsets(
            request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ADMIN_TIMEOUT_S
        )
        return {Partition(at.partition): Offset(self._result(future).offset) for at, future in futures.items()}

    def _note(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = error.str()

    def _why(self) -> str:
        """Return what the client says of its connections: an answer that is missing only says that it did not come."""
        self._last_error = None
        self._client.poll(0)  # calls `_note`
        return f" ({' '.join(self._last_error.split())})" if self._last_error else ""

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
            raise KafkaUnavailableError(
                f"found {fault.str()}{self._why()}, expected an answer from Kafka {self._where}"
            ) from error
        except TimeoutError as error:
            raise KafkaUnavailableError(
                f"found no answer{self._why()}, expected one from Kafka {self._where} within its time"
            ) from error
