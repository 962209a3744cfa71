"""Where a drain reads what is owed: raw files where the ledger names them, else the log.

A raw file that is missing or damaged is no reason to stop: the log is read instead for as long as it has the range.
Called by `k2_sink.drain`; what it raises when both are gone leaves the entry where it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import numpy as np

from k2_core.errors import RawFileError, StateError
from k2_core.raw_files import SCHEMA, Link, RawFiles
from k2_core.types import Offset
from k2_sink.batch import Chunk
from k2_sink.consumer import CHUNK_RECORDS
from k2_sink.drain import Drain, Limits, RangeReader, Taken
from k2_sink.metrics import SinkMetrics
from k2_sink.parts import Parts
from k2_sink.protocol import LogPartition
from k2_sink.source import Source

_log = logging.getLogger(__name__)


class RawReader:
    """Reads what one entry owes from raw files, oldest first; each call opens one file at most.

    Args:
        files: Of the table.
        taken: What is read, from where it was read to.
    """

    def __init__(self, files: RawFiles, taken: Taken) -> None:
        self._files = files
        self._walk = files.links(taken.entry, taken.end)
        self._walked = False
        self._links: list[Link] = []
        self._rows = SCHEMA.empty_table()

    def read(self, taken: Taken, max_records: int) -> int:
        """Read on, and return how many records that brought.

        Raises:
            RawFileError: A file is missing or damaged, or they do not hold what is owed.
            StorageUnavailableError: The warehouse is away.
        """
        if not self._walked:
            link = next(self._walk, None)
            self._walked = link is None
            self._links += [link] if link is not None else []
            return 0
        if not self._rows.num_rows and self._links:
            self._rows = self._files.owed(taken.entry, self._links.pop(), taken.end)
        part = self._rows.slice(0, min(max_records, CHUNK_RECORDS))
        self._rows = self._rows.slice(part.num_rows)
        if part.num_rows:
            offsets = part.column("offset").to_numpy()
            partitions = np.full(offsets.size, taken.entry.partition, dtype=np.int64)
            taken.add(Chunk(taken.entry.topic, part.column("value").to_pylist(), partitions, offsets))
            taken.end = Offset(int(offsets[-1]) + 1)
            taken.oldest_ms = max(0, part.column("timestamp_ms")[-1].as_py())
        if not self._rows.num_rows and not self._links:
            taken.end = taken.entry.end
            self._files.require_all(taken.entry, taken.records)
        return int(part.num_rows)


class OwedReader:
    """Reads one ledger entry at a time.

    Args:
        open_log: Makes a reader of the log; called when something is to be read there.
        files: Of the table.
        log_start: Returns the first offset that a partition's log still has.
        metrics: Of the sink: files that cannot be used are counted there.
    """

    def __init__(
        self,
        open_log: Callable[[], RangeReader],
        files: RawFiles,
        log_start: Callable[[LogPartition], Offset],
        metrics: SinkMetrics,
    ) -> None:
        self._open_log = open_log
        self._files = files
        self._log_start = log_start
        self._metrics = metrics
        self._raw: RawReader | None = None
        self._reader: RangeReader | None = None
        self._why: RawFileError | None = None

    def begin(self, taken: Taken) -> None:
        """Go where an entry was read to."""
        self._why = None
        self._raw = RawReader(self._files, taken) if taken.entry.raw_file is not None else None
        if self._raw is None:
            self._begin_log(taken)

    def _begin_log(self, taken: Taken) -> RangeReader:
        self._reader = self._reader or self._open_log()
        self._reader.begin(taken)
        return self._reader

    def read(self, taken: Taken, max_records: int) -> tuple[int, int]:
        """Read on, and return how many records that brought, and how many others were passed over.

        Raises:
            RawFileError: The raw files cannot be used, and the log no longer has the range.
            StateError: The log no longer holds what is owed, and no raw file was to.
            RetryableError: Kafka or the warehouse is away.
        """
        if self._raw is not None:
            try:
                return self._raw.read(taken, max_records), 0
            except RawFileError as error:
                self._metrics.met_unusable(error)
                self._fall_back(taken, error)
                return 0, 0
        reader = self._reader or self._begin_log(taken)
        try:
            return reader.read(taken, max_records)
        except StateError as error:
            if self._why is None:
                raise
            raise RawFileError(f"{self._why}; {error}") from error

    def _fall_back(self, taken: Taken, error: RawFileError) -> None:
        entry = taken.entry
        start = self._log_start((entry.topic, entry.partition))
        if start > entry.start:
            raise RawFileError(
                f"{error}; found the log of {entry.topic} partition {entry.partition} from offset {start}, expected it "
                f"from {entry.start}: put the file back, and the {entry.records} records come in"
            ) from error
        _log.error("raw file: cannot be used, the log is read instead", extra={"error": str(error)})
        self._why, self._raw = error, None
        taken.restart()
        self._begin_log(taken)

    def close(self) -> None:
        """Let go of Kafka and of what was read ahead."""
        self._raw = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def open_drain(
    parts: Parts,
    source: Source,
    files: RawFiles,
    clock: Callable[[], float],
    utc_s: Callable[[], float],
) -> Drain:
    """Return the drain of a sink.

    Args:
        parts: Of the sink.
        source: Its topics.
        files: The raw files of its table.
        clock: Monotonic seconds.
        utc_s: Seconds since 1970.
    """
    limits = Limits(
        parts.drain_records_per_s, parts.pipeline.spec.sink.commit_records, source.retention_ms, source.size
    )
    open_log = partial(RangeReader, parts.settings, parts.pipeline.sink_group)
    return Drain(partial(OwedReader, open_log, files, source.log_start, parts.metrics), limits, clock, utc_s)
