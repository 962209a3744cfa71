"""Where synthetic trade ids go on after a restart: at the end of the log, so that ids stay contiguous and unique.

Called by `k2 up` before it starts its own exchange on a folder that holds synthetic trades. It reads no more than the
record's first field, the message id, because what can decode all of it takes seconds to import.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from k2_cli.pipelines import exchanges
from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError
from k2_core.kafka import KafkaAdmin, client_config
from k2_core.spec import Pipeline
from k2_core.topics import partition_of
from k2_core.types import Partition, Symbol, TopicName

LOOK_BACK: Final = 20_000
"""Records read at a partition's end; synthetic symbols trade evenly, so each is among far fewer."""
TIMEOUT_S: Final = 20.0
_WIRE_PREFIX_BYTES: Final = 5
"""A zero byte and the schema id (Confluent's wire format)."""


def next_ids(settings: ServiceSettings, pipeline: Pipeline) -> dict[str, int]:
    """Return the next trade id of each symbol that has trades in the log.

    Raises:
        KafkaUnavailableError: Kafka does not answer.
    """
    admin = KafkaAdmin(settings)
    topics = admin.describe_topics(pipeline.trades_topics())
    found: dict[str, int] = {}
    consumer = Consumer(client_config(settings, group_id="k2-continuation", enable_auto_commit=False))
    try:
        for source in exchanges(pipeline):
            topic = pipeline.trades_topic(source)
            if topic in topics:  # a run that ended early may not have made it
                partitions = {partition_of(symbol, topics[topic][1]) for symbol in source.symbol_names}
                found |= _last_ids(admin, consumer, topic, partitions, frozenset(source.symbol_names))
    finally:
        consumer.close()
    return {symbol: last + 1 for symbol, last in found.items()}


def _last_ids(
    admin: KafkaAdmin,
    consumer: Consumer,
    topic: TopicName,
    partitions: Iterable[Partition],
    symbols: frozenset[Symbol],
) -> dict[str, int]:
    partitions = list(partitions)
    starts, ends = admin.log_starts(topic, partitions), admin.stable_ends(topic, partitions)
    begin = {at: max(starts[at], end - LOOK_BACK) for at, end in ends.items() if end > starts[at]}
    consumer.assign([TopicPartition(topic, at, offset) for at, offset in begin.items()])
    waiting = {at: ends[at] for at in begin}
    deadline = time.monotonic() + TIMEOUT_S
    found: dict[str, int] = {}
    while waiting:
        if time.monotonic() > deadline:
            raise KafkaUnavailableError(f"{topic}: found no answer in {TIMEOUT_S:g} s, expected the log's end")
        for message in _consume(consumer):
            identity = trade_of(message.value() or b"")
            if identity is not None and identity[0] in symbols:
                found[identity[0]] = max(found.get(identity[0], 0), identity[1])
        positions = {Partition(at.partition): at.offset for at in consumer.position(consumer.assignment())}
        waiting = {at: end for at, end in waiting.items() if positions[at] < end}
    return found


def _consume(consumer: Consumer) -> list[Message]:
    try:
        return [message for message in consumer.consume(10_000, 0.2) if message.error() is None]
    except KafkaException as error:
        raise KafkaUnavailableError(f"log: {error}") from error


def trade_of(value: bytes) -> tuple[str, int] | None:
    """Return symbol and trade id of a record, or None if it is no trade of a venue that numbers them.

    The first field of a record is its message id (`binance:spot:BTCUSDT:4000000001`), in Avro a length as a zig-zag
    varint and UTF-8.
    """
    length, shift, at = 0, 0, _WIRE_PREFIX_BYTES
    while at < len(value):
        length |= (value[at] & 0x7F) << shift
        shift += 7
        at += 1
        if value[at - 1] < 0x80:
            break
    parts = value[at : at + length // 2].decode(errors="replace").split(":")
    if len(parts) != 4 or not parts[3].isdecimal():
        return None
    return parts[2], int(parts[3])
