"""Sorted, partitioned Parquet files with chosen encodings, described the way Iceberg wants them.

One file a (day, bucket) of a batch, rows by symbol, event_time and trade_id. The encodings are those that
`hack/bench storage` compares with the library's defaults. Called by `k2_sink.commit`; it writes files and commits
nothing: a file that no snapshot names is invisible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.typedef import Record
from pyiceberg.types import MapType, StringType

from k2_core.intervals import Int64s
from k2_core.storage import storage_fault
from k2_core.tables import SYMBOL_BUCKETS

_MICROSECONDS_PER_DAY: Final = 86_400_000_000
ROW_GROUP_ROWS: Final = 250_000

ENCODINGS: Final[dict[str, str]] = {
    "message_id": "DELTA_BYTE_ARRAY",
    "trade_id": "DELTA_BYTE_ARRAY",
    "quote_id": "DELTA_BYTE_ARRAY",
    "sequence": "DELTA_BINARY_PACKED",
    "exchange_timestamp": "DELTA_BINARY_PACKED",
    "receive_timestamp": "DELTA_BINARY_PACKED",
    "event_time": "DELTA_BINARY_PACKED",
    "kafka_offset": "DELTA_BINARY_PACKED",
}
"""Columns that change a little from row to row; all others are dictionaries."""

_bucket = BucketTransform[str](SYMBOL_BUCKETS).transform(StringType())


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one partition of the table: day (since 1970) and bucket, sorted."""

    day: int
    bucket: int
    rows: pa.Table


def sort_rows(rows: pa.Table) -> Iterator[Group]:
    """Split rows by partition, each part sorted by symbol, event_time and trade_id.

    Args:
        rows: In a table's Arrow form, in any order; those of one symbol are nearly always in order already, so a stable
            sort by symbol is all that is done unless a look at the neighbours says otherwise.
    """
    if not rows.num_rows:
        return
    rows = rows.combine_chunks()
    days = rows.column("event_time").cast(pa.int64()).to_numpy() // _MICROSECONDS_PER_DAY
    buckets, ranks = _symbols(rows)
    order = np.lexsort((ranks, buckets, days)) if days.min() != days.max() else _order_of(ranks, buckets)
    rows, days, ranks = rows.take(pa.array(order)), days[order], ranks[order]
    if not _is_sorted(rows, ranks):
        keys = [("event_time", "ascending"), (_id_column(rows), "ascending")]
        fine = pc.sort_indices(
            pa.table(
                {"day": days, "bucket": buckets[order], "rank": ranks, **_columns(rows, [name for name, _ in keys])}
            ),
            sort_keys=[("day", "ascending"), ("bucket", "ascending"), ("rank", "ascending"), *keys],
        )
        rows, days, ranks, order = (
            rows.take(fine),
            days[fine.to_numpy()],
            ranks[fine.to_numpy()],
            order[fine.to_numpy()],
        )
    ordered_buckets = buckets[order]
    cuts = np.flatnonzero((np.diff(days) != 0) | (np.diff(ordered_buckets) != 0)) + 1
    for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), rows.num_rows], strict=True):
        yield Group(int(days[start]), int(ordered_buckets[start]), rows.slice(start, end - start))


def _symbols(rows: pa.Table) -> tuple[Int64s, Int64s]:
    """Return for each row its bucket, and its symbol's rank in alphabetical order."""
    coded = pc.dictionary_encode(rows.column("symbol")).combine_chunks()
    names = coded.dictionary.to_pylist()
    codes = coded.indices.to_numpy()
    rank_of = np.empty(len(names), dtype=np.int64)
    rank_of[np.argsort(np.array(names, dtype=object), kind="stable")] = np.arange(len(names))
    bucket_of = np.array([_bucket(name) for name in names], dtype=np.int64)
    return bucket_of[codes], rank_of[codes]


def _order_of(ranks: Int64s, buckets: Int64s) -> Int64s:
    """Return the stable order by bucket, then rank; 16-bit keys make numpy's sort a radix sort."""
    keys = buckets * (int(ranks.max()) + 1) + ranks
    return np.argsort(keys.astype(np.uint16) if keys.max() < np.iinfo(np.uint16).max else keys, kind="stable")


def _is_sorted(rows: pa.Table, ranks: Int64s) -> bool:
    """Return whether rows of one symbol are by event_time, and by id where that is equal."""
    times = rows.column("event_time").cast(pa.int64()).to_numpy()
    same = np.diff(ranks) == 0
    steps = np.diff(times)
    if np.any(steps[same] < 0):
        return False
    ids = rows.column(_id_column(rows)).combine_chunks()
    in_order = pc.less_equal(ids.slice(0, len(ids) - 1), ids.slice(1)).to_numpy(zero_copy_only=False)
    return bool(np.all(in_order[same & (steps == 0)]))


def _id_column(rows: pa.Table) -> str:
    return "trade_id" if "trade_id" in rows.schema.names else "quote_id"


def _columns(rows: pa.Table, names: list[str]) -> dict[str, pa.ChunkedArray]:
    return {name: rows.column(name) for name in names}


def file_schema(table: Table, schema: pa.Schema) -> pa.Schema:
    """Return an Arrow schema whose fields carry the table's column ids, as Iceberg's readers want."""
    return pa.schema([_with_ids(field, table) for field in schema])


def _with_ids(field: pa.Field, table: Table) -> pa.Field:
    column = table.schema().find_field(field.name)
    kind = field.type
    if pa.types.is_map(kind):
        ids = cast("MapType", column.field_type)
        kind = pa.map_(_numbered(kind.key_field, ids.key_id), _numbered(kind.item_field, ids.value_id))
    return _numbered(field.with_type(kind), column.field_id)


def _numbered(field: pa.Field, field_id: int) -> pa.Field:
    return field.with_metadata({"PARQUET:field_id": str(field_id)})


def parquet_options(schema: pa.Schema, compression_level: int) -> dict[str, Any]:
    """Return pyarrow's writer options for a schema's columns."""
    encodings = {name: encoding for name, encoding in ENCODINGS.items() if name in schema.names}
    plain = set(encodings)
    dictionaries = [name for name in schema.names if name not in plain and not pa.types.is_map(schema.field(name).type)]
    maps = [name for name in schema.names if pa.types.is_map(schema.field(name).type)]
    dictionaries += [f"{name}.key_value.key" for name in maps]
    return {
        "compression": "zstd",
        "compression_level": compression_level,
        "use_dictionary": dictionaries,
        "column_encoding": encodings | {f"{name}.key_value.value": "DELTA_BYTE_ARRAY" for name in maps},
        "store_decimal_as_integer": True,
        "write_page_index": False,
        "version": "2.6",
    }


class FileWriter:
    """Writes the groups of a batch as data files of a table.

    Args:
        table: Where the files go and whose ids they carry.
        compression_level: Of zstd.
    """

    def __init__(self, table: Table, compression_level: int) -> None:
        self._io = table.io
        self._location = table.location()
        self._spec_id = table.spec().spec_id
        self._sort_order_id = table.sort_order().order_id
        self._level = compression_level
        self._table = table
        self._statistics = compute_statistics_plan(table.schema(), table.properties)
        self._mapping = parquet_path_to_id_mapping(table.schema())

    def write(self, group: Group, name: str) -> DataFile:
        """Write one group as one file.

        Args:
            group: The rows.
            name: Of the file, unique in the table, without ending.

        Raises:
            StorageUnavailableError: The warehouse takes no more, or is away; what was begun is removed if it can be.
        """
        day = np.datetime64(group.day, "D")
        path = f"{self._location}/data/event_day={day}/symbol_bucket={group.bucket}/{name}.parquet"
        schema = file_schema(self._table, group.rows.schema)
        rows = group.rows.cast(schema)
        try:
            metadata, size = self._write_file(path, rows)
        except OSError as error:
            self.delete([path])
            raise storage_fault(error, path, self._io.properties) from error
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=metadata, stats_columns=self._statistics, parquet_column_mapping=self._mapping
        )
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            partition=Record(group.day, group.bucket),
            file_size_in_bytes=size,
            sort_order_id=self._sort_order_id,
            spec_id=self._spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    def _write_file(self, path: str, rows: pa.Table) -> tuple[pq.FileMetaData, int]:
        with self._io.new_output(path).create(overwrite=True) as sink:
            with pq.ParquetWriter(sink, rows.schema, **parquet_options(rows.schema, self._level)) as writer:
                writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
            size = sink.tell()
        return writer.writer.metadata, size

    def delete(self, paths: list[str]) -> None:
        """Remove files that no snapshot names; one that is not there, or cannot be removed, is left to maintenance."""
        for path in paths:
            try:
                self._io.delete(path)
            except OSError:
                continue
