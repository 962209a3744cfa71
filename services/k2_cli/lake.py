"""A table's snapshot, for reading whole columns: what audit, tables and the replay's verdict look at.

Called by commands; reads one pinned snapshot and changes nothing. Columns come file by file, so that memory is bounded
by what the caller keeps of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2_core.errors import StateError, StorageUnavailableError
from k2_core.records import TRADES, TableForm
from k2_core.state import STATE_KEY, CommitState
from k2_core.tables import load_table


@dataclass(frozen=True, slots=True)
class Lake:
    """One table at one snapshot."""

    table: Table
    snapshot: Snapshot | None

    @classmethod
    def open(cls, catalog: Catalog, namespace: str, form: TableForm = TRADES) -> Lake | None:
        """Return a table of a namespace at its head, or None if there is none.

        Raises:
            CatalogUnavailableError: The catalog does not answer.
        """
        table = load_table(catalog, namespace, form)
        return None if table is None else cls(table, table.current_snapshot())

    def state(self) -> CommitState | None:
        """Return the commit state of the head, or None if nothing was ever committed.

        Raises:
            StateError: The table holds something that is none.
        """
        text = self.table.properties.get(STATE_KEY)
        return None if text is None else CommitState.parse(text)

    def files(self) -> list[DataFile]:
        """Return the data files of the snapshot.

        Raises:
            StorageUnavailableError: A manifest cannot be read.
            StateError: The table has delete files, which K2 never writes and would not apply.
        """
        if self.snapshot is None:
            return []
        try:
            entries = [
                entry.data_file
                for manifest in self.snapshot.manifests(self.table.io)
                for entry in manifest.fetch_manifest_entry(self.table.io, discard_deleted=True)
            ]
        except OSError as error:
            raise StorageUnavailableError(f"warehouse: found {error}, expected the snapshot's manifests") from error
        if any(entry.content is not DataFileContent.DATA for entry in entries):
            raise StateError("table: found delete files, expected data files only; compact it with the tool that did")
        return entries

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield these columns, one data file at a time.

        Raises:
            StorageUnavailableError: A file that the snapshot names cannot be read.
        """
        for file in self.files():
            try:
                with self.table.io.new_input(file.file_path).open() as source:
                    yield pq.read_table(source, columns=list(columns))
            except OSError as error:
                raise StorageUnavailableError(f"warehouse: found {error}, expected {file.file_path}") from error
