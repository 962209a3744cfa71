"""How far the log has each dataset: the last row, of which version of the file, and which rows are dead letters.

The log is the only memory of a file source: what is in it needs no second account that could disagree. Called by
`service` before anything is produced. A dataset's rows are in one partition, in order, so the last of them says that
all before it are there or are dead letters; those have a topic of their own, so each is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka.cimpl import Message

from k2_core.codec import BatchDecoder
from k2_core.config import ServiceSettings
from k2_core.intervals import IntervalSet
from k2_core.records import TRADES
from k2_core.schemas import SchemaSource
from k2_core.topics import (
    DATASET_HEADER,
    DEAD_LETTER_PARTITIONS,
    DIGEST_HEADER,
    ROW_HEADER,
    dead_letter_topic,
    partition_of,
)
from k2_core.types import Partition, Symbol, TopicName
from k2_ingest.files.encode import DIGEST_KEY
from k2_ingest.log_reader import LogReader

STEP: Final = 100_000
"""Records read at once, from the end backwards: some 15 MB."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the log has of a dataset.

    Args:
        last_row: The highest row that is a record; 0 where there is none.
        digest: Of the file that it came from; None where there is none.
        letters: Rows that are dead letters, by the digest of their file.
    """

    last_row: int = 0
    digest: str | None = None
    letters: Mapping[str, IntervalSet] = field(default_factory=dict)


class LogProgress:
    """Reads the progress of datasets.

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

    def of(self, datasets: Mapping[str, Symbol]) -> dict[str, Progress]:
        """Return the progress of each dataset.

        A dataset that is new costs one reading of its symbol's partition, as nothing else proves that it is not there.

        Args:
            datasets: Names, and whose trades they are.

        Raises:
            KafkaUnavailableError: Kafka did not answer in time.
        """
        wanted: dict[Partition, set[str]] = {}
        for name, symbol in datasets.items():
            wanted.setdefault(partition_of(symbol, self._partitions), set()).add(name)
        last: dict[str, tuple[int, str | None]] = {}
        with LogReader(self._settings) as reader:
            letters = self._letters(reader)
            for partition, names in wanted.items():
                last |= self._last_rows(reader, partition, names)
        return {name: Progress(*last.get(name, (0, None)), letters.get(name, {})) for name in datasets}

    def _last_rows(self, reader: LogReader, partition: Partition, names: set[str]) -> dict[str, tuple[int, str | None]]:
        start, end = reader.bounds(self._topic, partition)
        found: dict[str, tuple[int, str | None]] = {}
        while end > start and names - found.keys():
            begin = max(start, end - STEP)
            messages = reader.read(self._topic, partition, begin, end)
            rows = self._decoder.decode([message.value() for message in messages]).rows
            found = _last_of(rows, names) | found  # what was found nearer to the end is later
            end = begin
        return found

    def _letters(self, reader: LogReader) -> dict[str, dict[str, IntervalSet]]:
        topic, found = dead_letter_topic(self._topic), dict[tuple[str, str], list[tuple[int, int]]]()
        for number in range(DEAD_LETTER_PARTITIONS):
            at, (start, end) = Partition(number), reader.bounds(topic, Partition(number))
            for begin in range(start, end, STEP):
                for message in reader.read(topic, at, begin, min(end, begin + STEP)):
                    letter = _letter(message)
                    if letter is not None:
                        name, digest, row = letter
                        found.setdefault((name, digest), []).append((row, row + 1))
        letters: dict[str, dict[str, IntervalSet]] = {}
        for (name, digest), ranges in found.items():
            letters.setdefault(name, {})[digest] = IntervalSet.of_ranges(ranges)
        return letters


def _last_of(rows: pa.Table, names: set[str]) -> dict[str, tuple[int, str | None]]:
    """Return the last row of each dataset among some records, and its digest."""
    ours = rows.filter(pc.is_in(rows.column("market"), pa.array(sorted(names), pa.string())))
    grouped = ours.select(["market", "sequence"]).group_by("market").aggregate([("sequence", "max")])
    found: dict[str, tuple[int, str | None]] = {}
    for row in grouped.to_pylist():
        name, last = row["market"], row["sequence_max"]
        same = pc.and_(pc.equal(ours.column("market"), name), pc.equal(ours.column("sequence"), last))
        [vendor, *_] = ours.filter(same).column("vendor_data").to_pylist()
        found[name] = (last, dict(vendor).get(DIGEST_KEY))
    return found


def _letter(message: Message) -> tuple[str, str, int] | None:
    """Return dataset, digest and row of a dead letter; None for one of a sink, which has none of them."""
    headers = dict(message.headers() or [])
    name, digest, row = (headers.get(header) for header in (DATASET_HEADER, DIGEST_HEADER, ROW_HEADER))
    if not (isinstance(name, bytes) and isinstance(digest, bytes) and isinstance(row, bytes) and row.isdigit()):
        return None
    return name.decode(errors="replace"), digest.decode(errors="replace"), int(row)
