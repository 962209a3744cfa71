"""One look at Kafka for one pipeline: topics made, grown or deleted, ends, positions.

Blocking: `observe` uses a thread.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewPartitions

from k2_core import engine_report, symbols_report
from k2_core.commit_signal import CommitSignal
from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError, SetupError
from k2_core.kafka import ADMIN_TIMEOUT_S, KafkaAdmin
from k2_core.service_report import ServiceReport
from k2_core.sink_report import SinkReport, newest
from k2_core.spec import KafkaSpec
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_operator.signals import Log, Question

LogPartition = tuple[TopicName, Partition]

SETTLE_S: Final = 5.0
RETRY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Look:
    """What Kafka answered.

    Args:
        partitions: Of each topic that exists; None without an answer.
        log: Where the trades' topics stand; None without an answer.
        kafka_problem: Why there was none.
        topics_problem: Why a topic could not be made, grown or deleted.
        ids: Of each topic that exists.
    """

    partitions: Mapping[TopicName, int] | None = None
    log: Log | None = None
    kafka_problem: str | None = None
    topics_problem: str | None = None
    ids: Mapping[TopicName, TopicId] = field(default_factory=dict)


class Topics(KafkaAdmin):
    """Kafka's admin API with what only the operator does: it grows and deletes topics."""

    def grow(self, topic: TopicName, partitions: int) -> None:
        """Give a topic so many partitions.

        Raises:
            SetupError: Kafka refused.
            KafkaUnavailableError: There was no answer.
        """
        request = [NewPartitions(topic, partitions)]
        futures: Mapping[str, Any] = self._client.create_partitions(request, operation_timeout=ADMIN_TIMEOUT_S)
        self._result(futures[topic])

    def remove(self, names: Collection[TopicName]) -> None:
        """Delete topics; one that is gone already is no fault.

        Raises:
            SetupError: Kafka refused.
            KafkaUnavailableError: There was no answer.
        """
        futures: Mapping[str, Any] = self._client.delete_topics(list(names), operation_timeout=ADMIN_TIMEOUT_S)
        for name, future in futures.items():
            try:
                self._result(future)
            except SetupError as error:
                cause = error.__cause__
                if not isinstance(cause, KafkaException) or cause.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise SetupError(f"topic {name}: {error}") from error


def kafka_settings(kafka: KafkaSpec, values: Mapping[str, bytes], ca_file: Path | None) -> ServiceSettings:
    """Return the settings of a client.

    Args:
        kafka: Where it is.
        values: Of the secrets that the spec refers to, by field.
        ca_file: Where the CA was written, or None for the system's.
    """
    given: dict[str, Any] = {
        "kafka_bootstrap_servers": kafka.bootstrap_servers,
        "kafka_security_protocol": kafka.security_protocol,
        "kafka_replication_factor": kafka.replication_factor,
        "kafka_ca_file": ca_file,
    }
    if kafka.sasl is not None:
        given |= {
            "kafka_sasl_mechanism": kafka.sasl.mechanism,
            "kafka_sasl_username": values["spec.kafka.sasl.usernameSecret"].decode(),
            "kafka_sasl_password": values["spec.kafka.sasl.passwordSecret"].decode(),
        }
    return ServiceSettings(**given)


def look(topics: Topics, question: Question) -> Look:
    """Make what may be made, or delete what is to go, then read where everything stands."""
    try:
        if question.remove:
            return _removed(topics, question)
        partitions, ids = _described(topics, question.topics)
        if not _lacking(question, partitions):
            return Look(partitions, _log(topics, question, partitions), ids=ids)
        problem = _make(topics, question, partitions)
        return replace(_settled(topics, question), topics_problem=problem)
    except (KafkaUnavailableError, SetupError) as error:
        return Look(kafka_problem=str(error))


def _settled(topics: Topics, question: Question) -> Look:
    """Look once more at topics that were just made: brokers hear of their leaders a moment later."""
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        try:
            partitions, ids = _described(topics, question.topics)
            return Look(partitions, _log(topics, question, partitions), ids=ids)
        except KafkaUnavailableError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(RETRY_S)


def _removed(topics: Topics, question: Question) -> Look:
    """Delete topics and look which are left; of where their ends were there is nothing more to say."""
    problem = None
    try:
        topics.remove(question.remove)
    except SetupError as error:
        problem = str(error)
    partitions, ids = _described(topics, question.topics)
    return Look(partitions, topics_problem=problem, ids=ids)


def _described(topics: Topics, names: Iterable[TopicName]) -> tuple[dict[TopicName, int], dict[TopicName, TopicId]]:
    found = topics.describe_topics(names)
    return {name: count for name, (_, count) in found.items()}, {name: one for name, (one, _) in found.items()}


def _lacking(question: Question, partitions: Mapping[TopicName, int]) -> bool:
    return any(partitions.get(name, 0) < count for name, count in question.topics.items())


def _make(topics: Topics, question: Question, partitions: Mapping[TopicName, int]) -> str | None:
    """Make missing topics and grow small ones, as far as the question allows; return why it could not be done."""
    missing = {name: count for name, count in question.topics.items() if name not in partitions}
    small = {name: count for name, count in question.topics.items() if partitions.get(name, count) < count}
    try:
        if missing and question.create:
            topics.ensure_topics(missing)
        if question.grow:
            for name, count in small.items():
                topics.grow(name, count)
    except SetupError as error:
        return str(error)
    return None


def _log(topics: Topics, question: Question, partitions: Mapping[TopicName, int]) -> Log:
    starts: dict[tuple[TopicName, Partition], Offset] = {}
    ends: dict[tuple[TopicName, Partition], Offset] = {}
    read: dict[tuple[TopicName, Partition], Offset] = {}
    committed: dict[tuple[TopicName, Partition], Offset] = {}
    signals: dict[LogPartition, CommitSignal] = {}
    reports: dict[LogPartition, SinkReport] = {}
    for topic in question.trades:
        numbers = [Partition(number) for number in range(partitions.get(topic, 0))]
        # Positions before ends: a commit in between makes the lag look longer, never shorter than it was.
        for at, (offset, metadata) in topics.group_signals(question.committed_group, topic).items():
            committed[topic, at] = offset
            if (signal := CommitSignal.parse(metadata)) is not None:
                signals[topic, at] = signal
        for at, (offset, metadata) in topics.group_signals(question.sink_group, topic).items():
            read[topic, at] = offset
            if (report := SinkReport.parse(metadata)) is not None:
                reports[topic, at] = report
        ends |= {(topic, at): offset for at, offset in topics.stable_ends(topic, numbers).items()}
        starts |= {(topic, at): offset for at, offset in topics.log_starts(topic, numbers).items()}
    now = datetime.now(UTC)
    event_times = [signal.newest_event_time for signal in signals.values() if signal.newest_event_time is not None]
    return Log(
        starts,
        ends,
        read,
        committed,
        max((signal.committed_at for signal in signals.values()), default=None),
        max(event_times, default=None),
        _owed(signals, reports),
        engine_report.word_of(_told(topics, question.engine_group), now),
        symbols_report.word_of(_told(topics, question.symbols_group), now),
    )


def _told(topics: Topics, group: str | None) -> list[ServiceReport | None]:
    """Return what services say in a group of their own; nothing where there is no such group."""
    if group is None:
        return []
    try:
        return [ServiceReport.parse(text) for text in topics.group_words(group)]
    except SetupError:  # policy: Kafka lets K2 see other groups and not this one; then nothing is known of what it says
        return []


def _owed(signals: Mapping[LogPartition, CommitSignal], reports: Mapping[LogPartition, SinkReport]) -> int | None:
    """Return what sinks say that they owe; None where a report is older than the commit that it should tell of."""
    for at, report in reports.items():
        if at in signals and report.at < signals[at].committed_at:
            return None
    return sum(report.deferred for report in newest(reports.values()).values())
