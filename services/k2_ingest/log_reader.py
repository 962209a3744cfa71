"""Bounded reads of the log at start: the bounds of a partition, and the messages between two offsets.

Owns a consumer that joins no group and commits nothing. Called by `log_end` and `files.progress`, before anything is
produced.
"""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.cimpl import Message

from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError
from k2_core.kafka import client_config
from k2_core.types import Partition, TopicName

log = logging.getLogger(__name__)

READ_TIMEOUT_S: Final = 60.0
OFFSETS_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 0.1


class LogReader:
    """A consumer for a few reads; to be used in a `with` block.

    Args:
        settings: How to reach Kafka.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        config = client_config(settings, group_id="k2-ingest-log-end", enable_auto_commit=False)
        config |= {"isolation.level": "read_uncommitted", "auto.offset.reset": "error"}
        self._consumer = Consumer(config, logger=log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def bounds(self, topic: TopicName, partition: Partition) -> tuple[int, int]:
        """Return first offset and end of a partition; a topic that was made a moment ago has no leader yet.

        Raises:
            KafkaUnavailableError: Kafka did not answer in time.
        """
        deadline_s = time.monotonic() + READ_TIMEOUT_S
        at = TopicPartition(topic, partition)
        while True:
            try:
                return self._consumer.get_watermark_offsets(at, timeout=OFFSETS_TIMEOUT_S)
            except KafkaException as error:
                if time.monotonic() > deadline_s:
                    raise KafkaUnavailableError(f"{topic}[{partition}]: found {error}, expected offsets") from error
                time.sleep(_RETRY_S)

    def read(self, topic: TopicName, partition: Partition, begin: int, end: int) -> list[Message]:
        """Return the messages of the offsets [begin, end).

        Raises:
            KafkaUnavailableError: They could not be read in time, or are no longer there.
        """
        if begin >= end:
            return []
        self._consumer.assign([TopicPartition(topic, partition, begin)])
        deadline_s = time.monotonic() + READ_TIMEOUT_S
        found: list[Message] = []
        position = begin
        while position < end:
            if time.monotonic() > deadline_s:
                raise KafkaUnavailableError(f"{topic}[{partition}]: found {position}, expected to reach {end}")
            for message in self._consumer.consume(10_000, timeout=0.5):
                fault = message.error()
                if fault is not None:
                    raise KafkaUnavailableError(f"{topic}[{partition}]: found {fault.str()}, expected a record")
                if (message.offset() or 0) < end:  # more may have come with them
                    found.append(message)
            [at] = self._consumer.position([TopicPartition(topic, partition)])
            position = max(position, at.offset)
        return found
