"""What the sink asks of its topics beyond records: their ids, where they begin and end, how long they keep what.

Called by the sink's loop, at its start, when partitions come, and when it is about to end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from k2_core.errors import SetupError
from k2_core.kafka import KafkaAdmin
from k2_core.topics import DEAD_LETTER_PARTITIONS, dead_letter_topic
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_sink.protocol import LogPartition
from k2_sink.size_watch import SizeWatch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """The topics of one pipeline.

    Args:
        admin: Of their Kafka.
        topic_ids: The id of each topic.
        retention_ms: For how long each keeps records; one that keeps them for ever, or does not say so, is left out.
        size: Of their logs, where bytes are bounded.
    """

    admin: KafkaAdmin
    topic_ids: Mapping[TopicName, TopicId]
    retention_ms: Mapping[TopicName, int] = field(default_factory=dict)
    size: SizeWatch = field(default_factory=SizeWatch)

    @classmethod
    def open(cls, admin: KafkaAdmin, wanted: Mapping[TopicName, int]) -> Source:
        """Return topics with so many partitions, made if they are missing, with their dead-letter topics."""
        letters = {dead_letter_topic(topic): DEAD_LETTER_PARTITIONS for topic in wanted}
        admin.ensure_topics({**wanted, **letters})
        ids = {name: topic_id for name, (topic_id, _) in admin.describe_topics(wanted).items()}
        return cls(admin, ids, _known(admin.retention_ms, ids), SizeWatch(_known(admin.retention_bytes, ids)))

    def forgets_within(self, hours: float) -> bool:
        """Return whether one of the logs keeps records for less, by time or by bytes."""
        by_time = any(kept_ms < hours * 3_600_000 for kept_ms in self.retention_ms.values())
        return by_time or self.size.forgets_within(hours)

    def log_starts(self, partitions: Iterable[LogPartition]) -> dict[LogPartition, Offset]:
        """Return the first offset that each partition still has."""
        starts: dict[LogPartition, Offset] = {}
        for topic, numbers in self._by_topic(partitions):
            starts |= {(topic, at): start for at, start in self.admin.log_starts(topic, numbers).items()}
        return starts

    def log_start(self, at: LogPartition) -> Offset:
        """Return the first offset that one partition still has."""
        return self.log_starts([at])[at]

    def stable_ends(self, partitions: Iterable[LogPartition]) -> dict[LogPartition, Offset]:
        """Return each partition's last stable offset."""
        ends: dict[LogPartition, Offset] = {}
        for topic, numbers in self._by_topic(partitions):
            ends |= {(topic, at): end for at, end in self.admin.stable_ends(topic, numbers).items()}
        return ends

    def _by_topic(self, partitions: Iterable[LogPartition]) -> list[tuple[TopicName, list[Partition]]]:
        wanted = list(partitions)
        return [(topic, [at for name, at in wanted if name == topic]) for topic in self.topic_ids]


def _known(
    read: Callable[[Iterable[TopicName]], Mapping[TopicName, int]], topics: Iterable[TopicName]
) -> Mapping[TopicName, int]:
    try:
        return read(topics)
    except SetupError as error:  # policy: then what is deferred comes back once there is time, and not sooner
        _log.warning("retention: not known, nothing is drained ahead of it", extra={"error": str(error)})
        return {}
