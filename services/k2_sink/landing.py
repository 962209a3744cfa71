"""Rows on their way to a commit: written as files, and removed again when the commit went to another.

Called by the sink's loop for batches and for drains. It commits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.manifest import DataFile

from k2_core.errors import RetryableError
from k2_core.health import Heartbeat
from k2_sink.commit import TableWriter
from k2_sink.files import FileWriter, sort_rows
from k2_sink.metrics import SinkMetrics


@dataclass(frozen=True, slots=True)
class Landing:
    """Where rows become files.

    Args:
        writer: Of the table.
        compression_level: Of zstd.
        metrics: Of the sink.
        heart: Beats between files.
    """

    writer: TableWriter
    compression_level: int
    metrics: SinkMetrics
    heart: Heartbeat

    def write(self, rows: pa.Table, batch_id: str) -> list[DataFile]:
        """Write rows as files that no snapshot names yet.

        Raises:
            StorageUnavailableError: The warehouse takes no more, or is away; what was written is removed if it can be.
        """
        with self.metrics.stage("sort"):
            groups = list(sort_rows(rows))
        writer = FileWriter(self.writer.table, self.compression_level)
        files: list[DataFile] = []
        try:
            with self.metrics.stage("write"):
                for number, group in enumerate(groups):
                    self.heart.beat()
                    files.append(writer.write(group, f"{batch_id}-{number:04d}"))
        except RetryableError:
            writer.delete([file.file_path for file in files])
            raise
        return files

    def remove(self, files: list[DataFile], batch_id: str) -> None:
        """Remove the files of a batch that was dropped, unless an attempt at it may have landed unseen."""
        if not self.writer.may_hold(batch_id):
            FileWriter(self.writer.table, self.compression_level).delete([file.file_path for file in files])
