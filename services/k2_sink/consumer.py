"""Kafka, for reading: chunks of values with their positions, and who owns which partition.

Where to read from is not Kafka's to say: positions come from the table, group offsets are only a signal of lag. Called
by the sink's loop from one thread; callbacks run inside `read` and `close`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Final

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from k2_core.errors import K2Error, KafkaUnavailableError, SetupError, StateError
from k2_core.kafka import client_config
from k2_core.types import Offset, Partition, TopicName
from k2_sink.batch import Chunk
from k2_sink.protocol import LogPartition, adopt_topic
from k2_sink.settings import SinkSettings

CHUNK_RECORDS: Final = 10_000
"""Enough to make each call's fixed cost small, few enough to stay in the processor's cache."""
HEARTBEATS_PER_SESSION: Final = 4
"""Heartbeats come from librdkafka's own thread, so a long write does not end a session."""
OFFSETS_EVERY_S: Final = 1.0
STATISTICS_EVERY_MS: Final = 5_000
BATCH_BYTES: Final = 61
"""Of a batch's header in the log: what a record of its own costs at most beyond itself."""

_LOST: Final = {
    KafkaError._AUTO_OFFSET_RESET: "the log no longer holds the offset where the table stands",
    KafkaError.OFFSET_OUT_OF_RANGE: "the log no longer holds the offset where the table stands",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "the topic is gone",
}
_DENIED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "the topic may not be read",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "the consumer group may not be joined",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Read:
    """What one call of `read` brought: chunks by topic, and partitions whose end was reached at an offset."""

    chunks: list[Chunk] = field(default_factory=list)
    ends: dict[LogPartition, Offset] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ownership:
    """What to do when partitions come and go.

    Args:
        taken: Returns the position to read each new partition from; may raise what the protocol raises.
        given_up: Called while the partitions are still owned: the last moment to commit them.
        lost: Called when others may own them already.
    """

    taken: Callable[[list[LogPartition]], Mapping[LogPartition, Offset]]
    given_up: Callable[[list[LogPartition]], None]
    lost: Callable[[list[LogPartition]], None]


class LogReader:
    """A member of the sink's consumer group.

    Args:
        settings: Where Kafka is.
        group: The consumer group; one a pipeline.
        topics: What to read.
        ownership: What to do when partitions come and go.
    """

    def __init__(self, settings: SinkSettings, group: str, topics: Sequence[TopicName], ownership: Ownership) -> None:
        self._ownership = ownership
        self._one_topic = topics[0] if len(topics) == 1 else None
        self._error: Exception | None = None
        self._offsets_at = 0.0
        self._held: Set[LogPartition] = frozenset()
        self.record_bytes: float | None = None
        """Of a record in the log, compressed as it is, the mean of all received; None while there is none."""
        self._hold_all = False
        self.full = False
        """Whether the last read brought as many records as it was asked for, so that there are probably more."""
        session_ms = int(settings.sink_session_timeout_s * 1000)
        self._consumer = Consumer(
            client_config(
                settings,
                group_id=group,
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="error",
                enable_partition_eof=True,  # an end says how far markers reach
                isolation_level="read_committed",
                partition_assignment_strategy="cooperative-sticky",
                session_timeout_ms=session_ms,
                heartbeat_interval_ms=session_ms // HEARTBEATS_PER_SESSION,
                fetch_queue_backoff_ms=5,  # the default of 1 s starves a fast consumer
                fetch_message_max_bytes=4 * 1024 * 1024,
                queued_max_messages_kbytes=16
                * 1024,  # what is held back is fetched again, and all else waits behind it
                statistics_interval_ms=STATISTICS_EVERY_MS,
            )
            | {"stats_cb": self._note_bytes},
            logger=_log,
        )
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def read(self, max_records: int, timeout_s: float, *, keys: bool = False, times: bool = False) -> Read:
        """Return what there is, after at most `timeout_s`; with keys, and with times beside them, if asked for.

        What comes beside a fault is returned first, and the fault raised by the next call: dropping it would leave a
        hole that looks like markers.

        Raises:
            StateError: The log no longer holds what the table needs next.
            KafkaUnavailableError: Kafka says so in place of a record.
            K2Error: Whatever `Ownership` raised.
        """
        self._raise_pending()
        most = min(max_records, CHUNK_RECORDS)
        messages = self._consumer.consume(most, timeout_s)
        self.full = len(messages) == most
        if not messages:
            self._raise_pending()
            return Read()
        faults = [(message, fault) for message in messages if (fault := message.error()) is not None]
        if not faults:
            return Read(self._chunks(messages, keys=keys, times=times))
        ends = {}
        for message, fault in faults:
            if fault.code() == KafkaError._PARTITION_EOF:
                ends[_log_partition(message)] = Offset(message.offset() or 0)
            else:
                self._error = self._error or translated(_log_partition(message), fault)
        good = [message for message in messages if message.error() is None]
        return Read(self._chunks(good, keys=keys, times=times), ends)

    def _raise_pending(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _chunks(self, messages: list[Message], *, keys: bool, times: bool) -> list[Chunk]:
        if self._one_topic is not None:
            return [to_chunk(self._one_topic, messages, keys=keys, times=times)] if messages else []
        by_topic: dict[TopicName, list[Message]] = {}
        for message in messages:
            by_topic.setdefault(_log_partition(message)[0], []).append(message)
        return [to_chunk(topic, members, keys=keys, times=times) for topic, members in by_topic.items()]

    def hold(self, held: Set[LogPartition] | None, positions: Mapping[LogPartition, Offset]) -> None:
        """Stop fetching some partitions, or all that are assigned now or later; heartbeats and rebalances go on.

        Args:
            held: Of what is owned; None: everything.
            positions: Where reading goes on in those that were held and are no longer.
        """
        if held is not None and not held and not self._held:
            return
        owned = {_key(at) for at in self._consumer.assignment()}
        wanted = owned if held is None else owned & held
        self._hold_all = held is None
        stopped, resumed = wanted - self._held, (self._held & owned) - wanted
        self._consumer.pause([TopicPartition(*at) for at in stopped])
        self._consumer.resume([TopicPartition(*at) for at in resumed])
        self._held = wanted
        self.seek({at: positions[at] for at in resumed & positions.keys()})  # else librdkafka guesses where

    def seek(self, positions: Mapping[LogPartition, Offset]) -> None:
        """Read each partition on from a position; what was fetched before is passed over by the batch."""
        for (topic, partition), offset in positions.items():
            self._consumer.seek(TopicPartition(topic, partition, offset))

    def write_offsets(self, positions: Mapping[LogPartition, Offset], report: Callable[[], str]) -> None:
        """Write read positions to the group, once a second; they are a signal of lag and nothing else.

        Args:
            positions: Of everything that is owned.
            report: Returns what stands beside each of them; see `k2_core.sink_report`.
        """
        now = time.monotonic()
        if now - self._offsets_at < OFFSETS_EVERY_S or not positions:
            return
        self._offsets_at = now
        text = report()
        try:
            self._consumer.commit(
                offsets=[TopicPartition(*at, offset, text) for at, offset in positions.items()], asynchronous=True
            )
        except KafkaException as error:  # a missing signal is not a missing row: the next second tries again
            _log.warning("group offsets were not written", extra={"error": str(error)})

    def _note_bytes(self, text: str) -> None:
        """Learn the bytes of a record: what came over the wire, at most what it is without compression.

        Fields: librdkafka, STATISTICS.md, top level.
        """
        told = json.loads(text)
        if records := told["rxmsgs"]:
            self.record_bytes = min(told["rx_bytes"], told["rxmsg_bytes"] + BATCH_BYTES * records) / records

    def unread(self, positions: Mapping[LogPartition, Offset]) -> dict[LogPartition, int]:
        """Return how far each position is from the end that the last fetch told of; unknown ones are left out."""
        found = {}
        for (topic, partition), position in positions.items():
            low_high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            if low_high is not None and low_high[1] >= 0:
                found[topic, partition] = max(0, low_high[1] - position)
        return found

    def close(self) -> None:
        """Leave the group: the others take over at once."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            positions = self._ownership.taken([_key(at) for at in partitions])
            assigned = [TopicPartition(*at, offset) for at, offset in positions.items()]
            consumer.incremental_assign(assigned)
            self._held -= positions.keys()
            if self._hold_all:
                consumer.pause(assigned)
                self._held |= positions.keys()
        except Exception as error:  # noqa: BLE001  # a callback must not raise into librdkafka: `read` does instead
            self._error = error
            consumer.incremental_assign([])  # else librdkafka assigns all of them, at positions that are not ours

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._ownership.given_up([_key(at) for at in partitions])
        except Exception as error:  # noqa: BLE001  # as above
            self._error = error
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._ownership.lost([_key(at) for at in partitions])
        consumer.incremental_unassign(partitions)


def _key(at: TopicPartition) -> LogPartition:
    return TopicName(at.topic), Partition(at.partition)


def _log_partition(message: Message) -> LogPartition:
    return TopicName(message.topic() or ""), Partition(message.partition() or 0)


def to_chunk(topic: TopicName, messages: list[Message], *, keys: bool, times: bool = False) -> Chunk:
    """Return messages of one topic as columns; `times` come only beside keys."""
    count = len(messages)
    chunk = Chunk(
        topic,
        list(map(Message.value, messages)),
        np.fromiter(map(Message.partition, messages), dtype=np.int64, count=count),
        np.fromiter(map(Message.offset, messages), dtype=np.int64, count=count),
    )
    if not keys:
        return chunk
    partitions, firsts = np.unique(chunk.partitions, return_index=True)
    firsts_ms = [max(0, messages[first].timestamp()[1]) for first in firsts.tolist()]
    first_ms = dict(zip(partitions.tolist(), firsts_ms, strict=True))
    chunk = replace(chunk, keys=list(map(Message.key, messages)), first_ms=first_ms)
    if not times:
        return chunk
    taken_in = map(itemgetter(1), map(Message.timestamp, messages))
    return replace(chunk, times_ms=np.fromiter(taken_in, dtype=np.int64, count=count))


def translated(at: LogPartition, fault: KafkaError) -> K2Error:
    """Return what Kafka says in place of a record, as one of K2's errors: lost for ever, not allowed, or not now."""
    where = f"topic {at[0]} partition {at[1]}"
    if fault.code() in _LOST:
        return StateError(
            f"{where}: {_LOST[fault.code()]} ({fault.str()}). To record what is lost, and go on: `{adopt_topic(at[0])}`"
        )
    if fault.code() in _DENIED:
        return SetupError(f"{where}: {_DENIED[fault.code()]} ({fault.str()}), expected the right to")
    return KafkaUnavailableError(f"{where}: found {fault.str()}, expected records")
