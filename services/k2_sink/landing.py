"""A batch on its way to a commit: written as files, and removed again when the commit went to another.

Its rows become data files, what level 3 defers of it becomes a raw file; both are there before the commit that names
them. Called by the sink's loop for batches and for drains. It commits nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pyiceberg.manifest import DataFile

from k2_core.errors import RetryableError
from k2_core.health import Heartbeat
from k2_core.raw_files import RawFiles, Section, created_ms
from k2_sink.batch import Batch
from k2_sink.commit import TableWriter
from k2_sink.files import FileWriter, sort_rows
from k2_sink.metrics import SinkMetrics

RENEW_AFTER_MS: Final = 3_600_000
"""A raw file that waits longer for its commit is written anew: `k2_sink.raw_sweep` takes an older one for litter."""


@dataclass(frozen=True, slots=True)
class Written:
    """What no snapshot names yet.

    Args:
        data: Files of rows.
        raw_file: The raw file's name, or None if nothing was deferred into one.
    """

    data: list[DataFile]
    raw_file: str | None = None


@dataclass(frozen=True, slots=True)
class Landing:
    """Where batches become files.

    Args:
        writer: Of the table.
        raw: Its raw files.
        compression_level: Of zstd.
        metrics: Of the sink.
        heart: Beats between files.
        utc_s: Seconds since 1970.
    """

    writer: TableWriter
    raw: RawFiles
    compression_level: int
    metrics: SinkMetrics
    heart: Heartbeat
    utc_s: Callable[[], float] = time.time

    def write(self, batch: Batch, batch_id: str, before: Written | None = None) -> Written:
        """Write a batch as files that no snapshot names yet, and tell it the name of its raw file.

        Args:
            batch: What is to be committed.
            batch_id: Of the files.
            before: What this call returned for the same batch at an earlier attempt; it is kept, unless it got old.

        Raises:
            StorageUnavailableError: The warehouse takes no more, or is away; what was written is removed if it can be.
        """
        now_ms = int(self.utc_s() * 1000)
        if before is not None and not _old(before.raw_file, now_ms):
            return before
        data = before.data if before is not None else self._write_rows(batch, batch_id)
        sections = batch.sections()
        try:
            with self.metrics.stage("raw"):
                batch.raw_file = self._write_raw(batch, sections, now_ms) if sections else None
        except RetryableError:
            if before is None:
                self._delete(data)
            raise
        return Written(data, batch.raw_file)

    def _write_raw(self, batch: Batch, sections: Sequence[Section], now_ms: int) -> str:
        written = self.raw.write(batch.raw(), sections, now_ms)
        self.metrics.raw_written.inc()
        self.metrics.raw_written_bytes.inc(written.nbytes)
        return written.name

    def _write_rows(self, batch: Batch, batch_id: str) -> list[DataFile]:
        with self.metrics.stage("sort"):
            groups = list(sort_rows(batch.table()))
        writer = FileWriter(self.writer.table, self.compression_level)
        files: list[DataFile] = []
        try:
            with self.metrics.stage("write"):
                for number, group in enumerate(groups):
                    self.heart.beat()
                    files.append(writer.write(group, f"{batch_id}-{number:04d}"))
        except RetryableError:
            self._delete(files)
            raise
        return files

    def remove(self, files: Written | None, batch_id: str) -> None:
        """Remove the files of a batch that was dropped, unless an attempt at it may have landed unseen."""
        if files is not None and not self.writer.may_hold(batch_id):
            self._delete(files.data)
            if files.raw_file is not None and self.raw.delete(files.raw_file):
                self.metrics.raw_removed.inc()

    def _delete(self, files: list[DataFile]) -> None:
        FileWriter(self.writer.table, self.compression_level).delete([file.file_path for file in files])


def _old(raw_file: str | None, now_ms: int) -> bool:
    begun_ms = created_ms(raw_file) if raw_file is not None else None
    return begun_ms is not None and now_ms - begun_ms > RENEW_AFTER_MS
