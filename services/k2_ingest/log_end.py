"""Where the log ends for each symbol, so that sequences continue over a restart.

Owns one bounded read at start: the last records of the partitions that hold our symbols. Called by `service` before the
feed starts. A trade that a killed process had received but not delivered is not in the log, so it shows as a gap. It
never commits offsets and joins no group.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from k2_core.codec import BatchDecoder
from k2_core.config import ServiceSettings
from k2_core.records import TRADES
from k2_core.schemas import SchemaSource
from k2_core.topics import partition_of
from k2_core.types import Partition, Symbol, TopicName
from k2_ingest.log_reader import LogReader

log = logging.getLogger(__name__)

FIRST_STEP: Final = 1_000  # records read back from an end; most symbols have traded among them
LONGEST_STEP: Final = 200_000  # a symbol that is not among so many counts as new, and a line says so


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
        with LogReader(self._settings) as reader:
            for partition, names in wanted.items():
                found |= self._partition(reader, partition, names)
        return found

    def _partition(self, reader: LogReader, partition: Partition, names: set[Symbol]) -> dict[Symbol, int]:
        start, end = reader.bounds(self._topic, partition)
        step = FIRST_STEP
        while True:
            begin = max(start, end - step)
            messages = reader.read(self._topic, partition, begin, end)
            found = self._decode([message.value() for message in messages])
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

    def _decode(self, values: list[bytes | None]) -> Mapping[Symbol, int]:
        rows = self._decoder.decode(values).rows
        numbered = rows.filter(pc.is_valid(rows.column("sequence")))
        highest = pa.table({"symbol": numbered.column("symbol"), "sequence": numbered.column("sequence")})
        grouped = highest.group_by("symbol").aggregate([("sequence", "max")])
        return {Symbol(row["symbol"]): row["sequence_max"] for row in grouped.to_pylist()}
