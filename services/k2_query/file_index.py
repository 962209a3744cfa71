"""The data files of one snapshot as arrays of statistics, so that pruning takes microseconds.

Built from the manifests, each of which is immutable and read once. Pure but for the manifests that it is handed; called
by `k2_query.lake`, and for pruning by the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import NestedField, PrimitiveType, StringType

from k2_core.errors import StateError
from k2_core.tables import SYMBOL_BUCKETS
from k2_query.segments import Bools, Int64s, Window

_NEVER: Final = np.iinfo(np.int64).max
_ALWAYS: Final = np.iinfo(np.int64).min
_ABOVE_ALL: Final = "\U0010ffff"
"""Sorts behind every symbol: the upper bound of a file that has none."""


@dataclass(frozen=True, slots=True)
class FileStats:
    """One data file. Bounds are inclusive; those of text may be truncated, the upper one upwards.

    Args:
        path: As the manifest has it.
        rows: Records.
        nbytes: Size on disk.
        partition: The partition's values, for counting.
        bucket: Of the symbols in it, None if the file is not partitioned so.
        symbols: Least and greatest symbol.
        event_us: Least and greatest event time, UTC microseconds.
        sequence: Least and greatest sequence; an empty range if all are null, everything if it is not known.
    """

    path: str
    rows: int
    nbytes: int
    partition: tuple[Any, ...]
    bucket: int | None
    symbols: tuple[str, str]
    event_us: tuple[int, int]
    sequence: tuple[int, int]


def read_stats(file: DataFile, schema: Schema, spec: PartitionSpec) -> FileStats:
    """Return a data file's statistics.

    Raises:
        StateError: The file holds row-level deletes, which this service does not apply: better no answer than deleted
            rows in one.
    """
    if file.content != DataFileContent.DATA:
        raise StateError(
            f"{file.file_path}: found row-level deletes, expected data files only; rewrite the table's deletes"
        )
    low, high = file.lower_bounds or {}, file.upper_bounds or {}

    def bounds(name: str, least: Any, greatest: Any) -> tuple[Any, Any]:
        field = _find(schema, name)
        if field is None or not isinstance(field.field_type, PrimitiveType):
            return least, greatest
        found = low.get(field.field_id), high.get(field.field_id)
        return (
            least if found[0] is None else from_bytes(field.field_type, found[0]),
            greatest if found[1] is None else from_bytes(field.field_type, found[1]),
        )

    sequence = _find(schema, "sequence")
    nulls = file.null_value_counts or {}
    all_null = sequence is not None and nulls.get(sequence.field_id) == file.record_count
    return FileStats(
        path=file.file_path,
        rows=file.record_count,
        nbytes=file.file_size_in_bytes,
        partition=tuple(file.partition[at] for at in range(len(spec.fields))),
        bucket=_bucket(file, schema, spec),
        symbols=bounds("symbol", "", _ABOVE_ALL),
        event_us=bounds("event_time", _ALWAYS, _NEVER),
        sequence=(_NEVER, _ALWAYS) if all_null else bounds("sequence", _ALWAYS, _NEVER),
    )


def _find(schema: Schema, name: str) -> NestedField | None:
    """Return a column, or None of tables that have no such one."""
    return schema.find_field(name) if name in schema.column_names else None


def _bucket(file: DataFile, schema: Schema, spec: PartitionSpec) -> int | None:
    symbol = _find(schema, "symbol")
    for at, field in enumerate(spec.fields):
        if (
            symbol is not None
            and field.source_id == symbol.field_id
            and field.transform == BucketTransform(SYMBOL_BUCKETS)
        ):
            bucket: int | None = file.partition[at]
            return bucket
    return None


@lru_cache(maxsize=4096)
def bucket_of(symbol: str) -> int:
    """Return the bucket that Iceberg puts a symbol in."""
    bucket = BucketTransform(SYMBOL_BUCKETS).transform(StringType())(symbol)
    return -1 if bucket is None else bucket


@dataclass(frozen=True)
class FileIndex:
    """All data files of a snapshot."""

    files: Sequence[FileStats]

    @cached_property
    def rows(self) -> Int64s:
        """Records of each file."""
        return np.array([file.rows for file in self.files], dtype=np.int64)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.nbytes for file in self.files)

    @cached_property
    def partitions(self) -> int:
        """How many distinct partitions hold data."""
        return len({file.partition for file in self.files})

    @cached_property
    def newest_event_us(self) -> int | None:
        """The greatest event time, or None of an empty table."""
        return int(self._event_us[:, 1].max()) if self.files else None

    def newest_window(self, seconds: int) -> Window | None:
        """Return the last seconds of a symbol that the newest file holds; None where no file says how new it is."""
        newest = max(self.files, key=lambda file: file.event_us[1], default=None)
        if newest is None or newest.event_us[1] == _NEVER:
            return None
        end_us = newest.event_us[1] + 1
        return Window(newest.symbols[0], end_us - seconds * 1_000_000, end_us)

    @cached_property
    def _event_us(self) -> npt.NDArray[np.int64]:
        return np.array([file.event_us for file in self.files], dtype=np.int64).reshape(-1, 2)

    @cached_property
    def _sequence(self) -> npt.NDArray[np.int64]:
        return np.array([file.sequence for file in self.files], dtype=np.int64).reshape(-1, 2)

    @cached_property
    def _symbols(self) -> npt.NDArray[np.str_]:
        return np.array([file.symbols for file in self.files], dtype=np.str_).reshape(-1, 2)

    @cached_property
    def _buckets(self) -> Int64s:
        return np.array([-1 if file.bucket is None else file.bucket for file in self.files], dtype=np.int64)

    def prune(self, window: Window, sequence: tuple[int, int] | None = None) -> Int64s:
        """Return which files may hold rows of a window, by number, and if given of a range of sequences."""
        if not self.files:
            return np.empty(0, dtype=np.int64)
        times = self._event_us
        keep: Bools = (times[:, 0] < window.end_us) & (times[:, 1] >= window.start_us)
        if window.symbol is not None:
            symbols = self._symbols
            keep &= (symbols[:, 0] <= window.symbol) & (symbols[:, 1] >= window.symbol)
            keep &= (self._buckets == -1) | (self._buckets == bucket_of(window.symbol))
        if sequence is not None:
            keep &= (self._sequence[:, 0] <= sequence[1]) & (self._sequence[:, 1] >= sequence[0])
        return np.flatnonzero(keep)

    def in_time_order(self, numbers: Int64s, *, newest_first: bool) -> tuple[Int64s, Int64s]:
        """Return files by number in the order in which a sorted read meets them, and the time that each begins at.

        Oldest first: by least event time. Newest first: by greatest event time, descending. A row of a later file
        never lies before the later file's own beginning, so a reader may stop at the first that begins too late.
        """
        begins = self._event_us[numbers, 1] if newest_first else self._event_us[numbers, 0]
        order = np.argsort(-begins if newest_first else begins, kind="stable")
        return numbers[order], begins[order]

    def pick(self, numbers: Int64s) -> list[FileStats]:
        """Return files by number."""
        return [self.files[number] for number in numbers.tolist()]


EMPTY_INDEX: Final = FileIndex(())
