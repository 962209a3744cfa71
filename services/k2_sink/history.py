"""Which ids a table holds already, read from the table itself when a sink starts or takes over a partition.

A file whose bounds say that it holds one symbol, and as many ids as it has rows, is understood from its manifest entry;
only the others are opened. Called by the sink's loop; it reads one pinned snapshot and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg import expressions
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import PrimitiveType

from k2_core.intervals import IntervalSet
from k2_core.storage import storage_fault
from k2_sink.batch import CONTENT_COLUMNS
from k2_sink.dedup import IdSpace, add_ids, ids_of

COLUMNS = ("exchange", "market", "symbol", "sequence")
_BOUND_CHARACTERS = 16
"""Iceberg cuts string bounds at 16 characters (`write.metadata.metrics.default`); a bound that long proves nothing."""


def held_ids(table: Table) -> dict[IdSpace, IntervalSet]:
    """Return the ids of all rows of the table's current snapshot, by id space.

    Raises:
        StorageUnavailableError: A file that the snapshot names cannot be read.
    """
    held: dict[IdSpace, IntervalSet] = {}
    ranges: dict[IdSpace, list[tuple[int, int]]] = {}
    for file in _data_files(table):
        known = bounded_ids(table, file)
        if known is None:
            add_ids(held, ids_of(_read_columns(table, file)))
        else:
            ranges.setdefault(known[0], []).append(known[1])
    add_ids(held, {space: IntervalSet.of_ranges(known) for space, known in ranges.items()})
    return held


def bounded_ids(table: Table, file: DataFile) -> tuple[IdSpace, tuple[int, int]] | None:
    """Return a file's id space and its ids as a half-open range, if its bounds alone prove them.

    Rows of one file never repeat an id (the sink saw to that), so as many rows as the range has numbers is all of them.
    """
    bounds: list[tuple[Any, Any]] = []
    for name in COLUMNS:
        column = table.schema().find_field(name)
        low, high = file.lower_bounds.get(column.field_id), file.upper_bounds.get(column.field_id)
        if low is None or high is None or file.null_value_counts.get(column.field_id, 1):
            return None
        kind = cast("PrimitiveType", column.field_type)
        bounds.append((from_bytes(kind, low), from_bytes(kind, high)))
    *keys, (first, last) = bounds
    if any(low != high or len(low) >= _BOUND_CHARACTERS for low, high in keys):
        return None
    if last - first + 1 != file.record_count:
        return None
    exchange, market, symbol = (low for low, _ in keys)
    return (exchange, market, symbol), (first, last + 1)


def find_rows(table: Table, suspects: pa.Table) -> pa.Table:
    """Return the rows that the table holds for the ids of some rows: `message_id` and what makes a record's content.

    Raises:
        StorageUnavailableError: A file that the snapshot names cannot be read.
    """
    sequences = pc.min_max(suspects.column("sequence")).as_py()
    symbols = pc.unique(suspects.column("symbol")).to_pylist()
    build: Any = expressions  # their pydantic models hide the constructors from the type checker
    near = build.And(
        build.In("symbol", symbols),
        build.GreaterThanOrEqual("sequence", sequences["min"]),
        build.LessThanOrEqual("sequence", sequences["max"]),
    )
    try:
        rows = table.scan(row_filter=near, selected_fields=("message_id", *CONTENT_COLUMNS)).to_arrow()
    except OSError as error:
        raise storage_fault(error, table.location(), table.io.properties) from error
    rows = rows.cast(pa.schema([suspects.schema.field(name) for name in rows.schema.names]))
    return rows.filter(pc.is_in(rows.column("message_id"), suspects.column("message_id").combine_chunks()))


def _data_files(table: Table) -> Iterator[DataFile]:
    snapshot = table.current_snapshot()
    if snapshot is None:
        return
    try:
        manifests = [one.fetch_manifest_entry(table.io, discard_deleted=True) for one in snapshot.manifests(table.io)]
    except OSError as error:
        raise storage_fault(error, table.location(), table.io.properties) from error
    for entries in manifests:
        for entry in entries:
            yield entry.data_file


def _read_columns(table: Table, file: DataFile) -> pa.Table:
    try:
        with table.io.new_input(file.file_path).open() as source:
            return pq.read_table(source, columns=list(COLUMNS))
    except OSError as error:
        raise storage_fault(error, file.file_path, table.io.properties) from error
