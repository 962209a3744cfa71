"""Kafka messages to batches of the tail: the one place where the query service decodes.

Used by the tail's thread and by the reader of single ranges. A value that the codec refuses is left out, exactly as the
sink does, which has it in the dead letters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from confluent_kafka import KafkaError, Message

from k2_core.codec import BatchDecoder
from k2_core.errors import KafkaUnavailableError
from k2_core.types import Partition, TopicName
from k2_query.boundary import LogPartition
from k2_query.segments import Int64s


class LogStartPassedError(KafkaUnavailableError):
    """The position asked for is no longer, or not yet, in the log."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one poll brought.

    Args:
        rows: The good records in the wire's form.
        slots: Each row's slot.
        offsets: Each row's offset.
        ends: By slot the position after the poll.
        rejected: Values that are no records.
    """

    rows: pa.Table
    slots: Int64s
    offsets: Int64s
    ends: Mapping[int, int]
    rejected: int


def decode(messages: Sequence[Message], slot_of: Mapping[LogPartition, int], decoder: BatchDecoder) -> Decoded:
    """Decode a poll. End-of-partition events move positions too: markers of transactions are no messages.

    Raises:
        LogStartPassedError: A position was out of the log's range.
        KafkaUnavailableError: Another of Kafka's errors.
        RetryableError: The schema registry did not answer: nothing was decoded, call again with the same messages.
    """
    ends: dict[int, int] = {}
    values: list[bytes | None] = []
    slots: list[int] = []
    offsets: list[int] = []
    for message in messages:
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            _raise(error)
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if topic is None or partition is None or offset is None:
            continue  # an event of the whole client
        slot = slot_of[LogPartition(TopicName(topic), Partition(partition))]
        if error is not None:
            ends[slot] = max(ends.get(slot, 0), offset)
            continue
        values.append(message.value())
        slots.append(slot)
        offsets.append(offset)
        ends[slot] = offset + 1
    decoded = decoder.decode(values)
    return Decoded(
        decoded.rows,
        np.array(slots, dtype=np.int64)[decoded.indexes],
        np.array(offsets, dtype=np.int64)[decoded.indexes],
        ends,
        len(decoded.rejected),
    )


def _raise(error: KafkaError) -> None:
    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        raise LogStartPassedError(f"found {error.str()}, expected the position in the log")
    raise KafkaUnavailableError(f"found {error.str()}, expected records")
