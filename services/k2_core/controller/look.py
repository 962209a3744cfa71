"""Looks at Kafka for one pipeline: ends, positions, ages, what sinks say of themselves, and who is in their group.

The controller's one module that talks to Kafka for reading. Nothing is remembered between two looks but clients and the
topics' retention, which seldom changes. Called by `k2_core.controller.loop` and by `k2 lag`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import Consumer, ConsumerGroupState, TopicPartition

from k2_core.commit_signal import CommitSignal
from k2_core.config import ServiceSettings
from k2_core.controller.lag import LogPartition, PartitionLag, partition_lags, wanted_ages
from k2_core.errors import SetupError
from k2_core.kafka import KafkaAdmin, client_config
from k2_core.sink_report import SinkReport, newest
from k2_core.spec import Pipeline
from k2_core.types import Offset, Partition, TopicId, TopicName

RETENTION_EVERY_S: Final = 60.0
AGES_TIMEOUT_S: Final = 1.0
"""What is not read by then has no age, which holds what needs it."""
_FETCH_BYTES: Final = 64 * 1024
"""Of a partition: a batch is enough, its first record is the one that is asked for."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw.

    Args:
        at: UTC.
        partitions: Of all topics that exist.
        reports: The newest of each sink, fresh or not, by its name.
        members: How many sinks are in the group.
        rebalancing: Whether the group hands partitions over.
        retention_s: How long the log keeps a record, the shortest of the topics; None: for ever, or not known.
        retention_bytes: Of a partition, of the topics that bound them.
    """

    at: datetime
    partitions: tuple[PartitionLag, ...] = ()
    reports: Mapping[str, SinkReport] = field(default_factory=dict)
    members: int = 0
    rebalancing: bool = False
    retention_s: float | None = None
    retention_bytes: Mapping[TopicName, int] = field(default_factory=dict)


class Looker:
    """Looks again and again.

    Args:
        settings: Where Kafka is.
        pipeline: Whose topics and groups.
        admin: A client of that Kafka which others use too; None: one of its own.
        ages: The same.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        pipeline: Pipeline,
        admin: KafkaAdmin | None = None,
        ages: RecordAges | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._admin = KafkaAdmin(settings) if admin is None else admin
        self._ages = RecordAges(settings) if ages is None else ages
        self._own_ages = ages is None
        self._retention_at = -RETENTION_EVERY_S
        self._retention: tuple[float | None, Mapping[TopicName, int]] = (None, {})

    def look(self, table: Mapping[tuple[TopicName, TopicId], Mapping[Partition, Offset]] | None = None) -> Look:
        """Return what is to be seen now.

        Args:
            table: Where the table stands in each topic that it knows, read before: that counts then. None: what
                sinks told counts, as a controller opens no table.

        Raises:
            KafkaUnavailableError: No broker answered: nothing is known.
        """
        topics = self._admin.describe_topics(self._pipeline.trades_topics())
        read: dict[LogPartition, Offset] = {}
        committed: dict[LogPartition, Offset] = {}
        starts: dict[LogPartition, Offset] = {}
        ends: dict[LogPartition, Offset] = {}
        commits: dict[LogPartition, CommitSignal] = {}
        reports: list[SinkReport | None] = []
        for topic, (topic_id, count) in topics.items():
            numbers = [Partition(number) for number in range(count)]
            # Positions first: what is read in between makes a lag look longer, never shorter than it was.
            signals = self._admin.group_signals(self._pipeline.sink_group, topic)
            reports += [SinkReport.parse(text) for _, text in signals.values()]
            read |= {(topic, at): offset for at, (offset, _) in signals.items()}
            taken = self._admin.group_signals(self._pipeline.committed_group, topic)
            told = {(topic, at): CommitSignal.parse(text) for at, (_, text) in taken.items()}
            commits |= {at: signal for at, signal in told.items() if signal is not None}
            if table is None:
                committed |= {(topic, at): offset for at, (offset, _) in taken.items()}
            else:  # nothing of a topic that was made anew since
                holds = {(topic, at): offset for at, offset in table.get((topic, topic_id), {}).items()}
                committed |= holds
                # What is in the table was read, though a sink that ended may not have told of its last reads.
                read |= {at: max(read[at], offset) for at, offset in holds.items() if at in read}
            starts |= {(topic, at): offset for at, offset in self._admin.log_starts(topic, numbers).items()}
            ends |= {(topic, at): offset for at, offset in self._admin.stable_ends(topic, numbers).items()}
        retention_s, retention_bytes = self._retentions(topics)
        now = datetime.now(UTC)
        ages = self._ages.of(wanted_ages(starts, ends, read), wanted_ages(starts, ends, committed), now)
        committed_ages = {at: max(0.0, (now - one.committed_at).total_seconds()) for at, one in commits.items()}
        members, state = self._admin.group_members(self._pipeline.sink_group)
        lags = partition_lags(starts, ends, read, committed, lambda at, offset: ages.get((at, offset)))
        return Look(
            at=now,
            partitions=tuple(replace(one, committed_age_s=committed_ages.get(one.at)) for one in lags),
            reports=newest(reports),
            members=members,
            rebalancing=state in _REBALANCING,
            retention_s=retention_s,
            retention_bytes=retention_bytes,
        )

    def _retentions(self, topics: Iterable[TopicName]) -> tuple[float | None, Mapping[TopicName, int]]:
        if time.monotonic() - self._retention_at >= RETENTION_EVERY_S:
            self._retention_at, self._retention = time.monotonic(), self._read_retentions(list(topics))
        return self._retention

    def _read_retentions(self, topics: list[TopicName]) -> tuple[float | None, Mapping[TopicName, int]]:
        try:
            kept_ms, kept_bytes = self._admin.retention_ms(topics), self._admin.retention_bytes(topics)
        except SetupError as error:  # policy: then no outage budget is known, and nothing else suffers
            _log.warning("retention: not known", extra={"error": str(error)})
            return None, {}
        return min((one / 1000 for one in kept_ms.values()), default=None), kept_bytes

    def close(self) -> None:
        """Leave Kafka."""
        if self._own_ages:
            self._ages.close()


_REBALANCING: Final = frozenset({ConsumerGroupState.PREPARING_REBALANCING, ConsumerGroupState.COMPLETING_REBALANCING})


class RecordAges:
    """Reads the record at a position for its timestamp, for one look after another.

    Args:
        settings: Where Kafka is.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        config = client_config(
            settings,
            group_id="k2-controller-ages",  # required by the client; nothing is ever committed under it
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",  # retention may take the record away while it is asked for
            fetch_wait_max_ms=20,
            fetch_message_max_bytes=_FETCH_BYTES,
        )
        self._consumer = Consumer(config, logger=_log)
        self._lock = threading.Lock()

    def of(
        self, unread: Mapping[LogPartition, Offset], uncommitted: Mapping[LogPartition, Offset], now: datetime
    ) -> dict[tuple[LogPartition, Offset], float]:
        """Return the age in seconds of each record that could be read."""
        ages: dict[tuple[LogPartition, Offset], float] = {}
        for wanted in (unread, uncommitted):
            missing = {at: offset for at, offset in wanted.items() if (at, offset) not in ages}
            with self._lock:
                found = self._timestamps(missing)
            for at, timestamp_ms in found.items():
                ages[at, missing[at]] = max(0.0, now.timestamp() - timestamp_ms / 1000)
        return ages

    def _timestamps(self, wanted: Mapping[LogPartition, Offset]) -> dict[LogPartition, int]:
        if not wanted:
            return {}
        found: dict[LogPartition, int] = {}
        self._consumer.assign([TopicPartition(*at, offset) for at, offset in wanted.items()])
        deadline_s = time.monotonic() + AGES_TIMEOUT_S
        while len(found) < len(wanted) and (left_s := deadline_s - time.monotonic()) > 0:
            for message in self._consumer.consume(len(wanted), min(left_s, 0.02)):
                at = (TopicName(message.topic() or ""), Partition(message.partition() or 0))
                if message.error() is None and at in wanted and at not in found:
                    found[at] = message.timestamp()[1]
        self._consumer.unassign()
        return found

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()
