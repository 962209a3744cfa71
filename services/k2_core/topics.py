"""Names of topics, the partitioner, and what a dead letter carries.

Called by everything that meets Kafka; pure, so it never talks to it (`k2_core.kafka` does).
"""

from __future__ import annotations

import re
from typing import Final

from k2_core.errors import SpecError
from k2_core.types import Partition, Symbol, TopicName

CONTROL_TOPIC: Final = TopicName("k2.control")
"""Compacted; carries the controller's decisions to sinks and query services."""
DEAD_LETTER_SUFFIX: Final = ".dlq"

REASON_HEADER: Final = "k2.reason"
DETAIL_HEADER: Final = "k2.detail"
TOPIC_HEADER: Final = "k2.topic"
TOPIC_ID_HEADER: Final = "k2.topic_id"
PARTITION_HEADER: Final = "k2.partition"
OFFSET_HEADER: Final = "k2.offset"
"""A dead letter's value is the original bytes; these headers say why, and where they came from.

Letters of the ingest have no partition and offset: they never reached a topic. Theirs have the source's name.
"""
SOURCE_HEADER: Final = "k2.source"
DATASET_HEADER: Final = "k2.dataset"
FILE_HEADER: Final = "k2.file"
DIGEST_HEADER: Final = "k2.digest"
ROW_HEADER: Final = "k2.row"
"""Of letters that were a line of a file: the dataset, its file's path and digest, and the row."""

DEAD_LETTER_PARTITIONS: Final = 1
"""Dead letters are few, and people read them in the order of their arrival."""

_PART: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_MASK: Final = 0xFFFFFFFF
_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995


def topic_name(namespace: str, asset_class: str, data_type: str, exchange: str) -> TopicName:
    """Return `{namespace}.{asset_class}.{data_type}.{exchange}`, such as `market.crypto.trades.binance`.

    Raises:
        SpecError: A part is not lower-case letters, digits, `-` and `_`.
    """
    parts = (namespace, asset_class, data_type, exchange)
    for part in parts:
        if not _PART.fullmatch(part):
            raise SpecError("topic", repr(part), "lower-case letters, digits, '-' and '_'")
    return TopicName(".".join(parts))


def dead_letter_topic(topic: TopicName) -> TopicName:
    """Return the topic that keeps what could not become a record of this one."""
    return TopicName(topic + DEAD_LETTER_SUFFIX)


def partition_of(symbol: Symbol, partitions: int) -> Partition:
    """Return the partition of a symbol: murmur2 of its bytes, as Kafka's Java client places a key.

    The same symbol is always in the same partition, so its order in the log is its order on the wire.
    Source: org.apache.kafka.clients.producer.internals.BuiltInPartitioner, `toPositive(murmur2(key)) % partitions`.
    """
    return Partition((murmur2(symbol.encode()) & 0x7FFFFFFF) % partitions)


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 of Kafka's `Utils.murmur2`, as an unsigned number."""
    length = len(data)
    digest = (_SEED ^ length) & _MASK
    whole = length - length % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        digest = (digest * _MULTIPLIER & _MASK) ^ word
    if length > whole:
        digest = (digest ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    digest = (digest ^ digest >> 13) * _MULTIPLIER & _MASK
    return digest ^ digest >> 15
