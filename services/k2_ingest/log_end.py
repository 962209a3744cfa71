"""Where the log ends for each symbol, so that sequences continue over a restart.

Owns one bounded read at start: the last records of the partitions that hold our symbols. Called by `service` before the
feed starts. A trade that a killed process had received but not delivered is not in the log, so it shows as a gap. It
never commits offsets and joins no group.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, KafkaException, TopicPartition

from k2_core.codec import BatchDecoder
from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError
from k2_core.kafka import client_config
from k2_core.records import TRADES
from k2_core.schemas import SchemaSource
from k2_core.topics import partition_of
from k2_core.types import Partition, Symbol, TopicName

log = logging.getLogger(__name__)

FIRST_STEP: Final = 1_000  # records read back from an end; most symbols have traded among them
LONGEST_STEP: Final = 200_000  # a symbol that is not among so many counts as new, and a line says so
READ_TIMEOUT_S: Final = 60.0
OFFSETS_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 0.1


class LogEnd:
    """Reads the last sequence of each symbol.

    Args:
        settings: How to reach Kafka.
        topic: The topic of the trades.
        partitions: Its partitions.
        schemas: Where writer schemas come from.
    """

    def __init__(self, settings: ServiceSettings, topic: TopicName, partitions: int, schemas: SchemaSource) -> None:
        self._settings = settings
        self._topic = topic
        self._partitions = partitions
        self._decoder = BatchDecoder(TRADES, schemas.by_id)

    def last_sequences(self, symbols: Iterable[Symbol]) -> dict[Symbol, int]:
        """The highest sequence in the log for each symbol that has one near its partition's end.

        Raises:
            KafkaUnavailableError: Kafka did not answer in time.
        """
        wanted: dict[Partition, set[Symbol]] = {}
        for symbol in symbols:
            wanted.setdefault(partition_of(symbol, self._partitions), set()).add(symbol)
        found: dict[Symbol, int] = {}
        config = client_config(self._settings, group_id="k2-ingest-log-end", enable_auto_commit=False)
        consumer = Consumer(config | {"isolation.level": "read_uncommitted", "auto.offset.reset": "error"}, logger=log)
        try:
            for partition, names in wanted.items():
                found |= self._partition(consumer, partition, names, self._bounds(consumer, partition))
        finally:
            consumer.close()
        return found

    def _bounds(self, consumer: Consumer, partition: Partition) -> tuple[int, int]:
        """First offset and end of a partition; a topic that was made a moment ago has no leader yet."""
        deadline_s = time.monotonic() + READ_TIMEOUT_S
        while True:
            try:
                return consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=OFFSETS_TIMEOUT_S)
            except KafkaException as error:
                if time.monotonic() > deadline_s:
                    raise KafkaUnavailableError(
                        f"{self._topic}[{partition}]: found {error}, expected offsets"
                    ) from error
                time.sleep(_RETRY_S)

    def _partition(
        self, consumer: Consumer, partition: Partition, names: set[Symbol], bounds: tuple[int, int]
    ) -> dict[Symbol, int]:
        start, end = bounds
        step = FIRST_STEP
        while True:
            begin = max(start, end - step)
            found = self._decode(self._read(consumer, partition, begin, end))
            missing = names - found.keys()
            if not missing or begin == start:
                break
            if step >= LONGEST_STEP:
                log.warning(
                    "symbols not found at the end of the log: their sequences start anew",
                    extra={"symbols": sorted(missing), "partition": partition, "records_read": step},
                )
                break
            step = min(step * 10, LONGEST_STEP)
        return {symbol: found[symbol] for symbol in names & found.keys()}

    def _read(self, consumer: Consumer, partition: Partition, begin: int, end: int) -> list[bytes | None]:
        """The values of the offsets [begin, end)."""
        if begin >= end:
            return []
        consumer.assign([TopicPartition(self._topic, partition, begin)])
        deadline_s = time.monotonic() + READ_TIMEOUT_S
        values: list[bytes | None] = []
        position = begin
        while position < end:
            if time.monotonic() > deadline_s:
                raise KafkaUnavailableError(f"{self._topic}[{partition}]: found {position}, expected to reach {end}")
            for message in consumer.consume(10_000, timeout=0.5):
                fault = message.error()
                if fault is not None:
                    raise KafkaUnavailableError(f"{self._topic}[{partition}]: found {fault.str()}, expected a record")
                values.append(message.value())
            [at] = consumer.position([TopicPartition(self._topic, partition)])
            position = max(position, at.offset)
        return values

    def _decode(self, values: list[bytes | None]) -> Mapping[Symbol, int]:
        rows = self._decoder.decode(values).rows
        numbered = rows.filter(pc.is_valid(rows.column("sequence")))
        highest = pa.table({"symbol": numbered.column("symbol"), "sequence": numbered.column("sequence")})
        grouped = highest.group_by("symbol").aggregate([("sequence", "max")])
        return {Symbol(row["symbol"]): row["sequence_max"] for row in grouped.to_pylist()}
