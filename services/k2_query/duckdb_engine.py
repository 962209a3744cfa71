"""DuckDB as the engine of one process: pruned Parquet files of a pinned snapshot, read by a few locked-down cursors.

The index of a snapshot says which files may matter; DuckDB never looks at a catalog or a directory. Rows are read in
the order of time and only as far as the limit needs.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from k2_core.errors import QueryError, RetryableError, StorageUnavailableError
from k2_core.records import TRADES
from k2_query import sql
from k2_query.budget import Budget
from k2_query.engine import Day, SymbolSpan
from k2_query.file_index import FileStats
from k2_query.files import Files
from k2_query.lake import LakeSnapshot
from k2_query.narrowing import bounds, sequence_range
from k2_query.ordering import Order, top
from k2_query.segments import Int64s, Window

FIRST_GROUP: Final = 2
"""How many times the limit the first files' rows should be: a file holds other symbols and times, too."""
GROUP_GROWTH: Final = 4
_SCHEMA: Final = TRADES.table_schema


class DuckDBEngine:
    """See `k2_query.engine.Engine`.

    Args:
        files: Where data files come from.
        memory_bytes: For all queries together.
        threads: For all queries together.
        cursors: How many queries may run at once.
    """

    def __init__(self, files: Files, *, memory_bytes: int, threads: int, cursors: int) -> None:
        self._files = files
        self._connection = duckdb.connect(":memory:")
        for name, value in _settings(files.root, memory_bytes, threads):
            self._connection.execute(f"SET {name} = {value}")
        self._cursors: queue.Queue[duckdb.DuckDBPyConnection] = queue.Queue()
        for _ in range(cursors):
            self._cursors.put(self._connection.cursor())
        self._spans: dict[str, list[SymbolSpan]] = {}

    def check(self, lake: LakeSnapshot, budget: Budget) -> None:
        """See `Engine.check`: it is in this process."""

    def close(self) -> None:
        """Close the database and the files; running queries are interrupted."""
        self._connection.interrupt()
        self._connection.close()
        self._files.close()

    def rows(self, lake: LakeSnapshot, window: Window, order: Order, limit: int, budget: Budget) -> pa.Table:
        """See `Engine.rows`."""
        index = lake.index
        numbers, begins = index.in_time_order(index.prune(window), newest_first=order is Order.DESC)
        found = _SCHEMA.empty_table()
        text = sql.window_rows(_SCHEMA.names, order)
        at, wanted = 0, FIRST_GROUP * limit
        while at < len(numbers):
            end = at + _group(index.rows[numbers[at:]], wanted)
            with self._held(index.pick(numbers[at:end]), budget) as paths:
                part = self._table(text, [paths, *bounds(window), limit], budget).cast(_SCHEMA)
            found = top(pa.concat_tables([found, part]), order, limit) if found.num_rows else part
            if end < len(numbers) and found.num_rows == limit and _beyond(found, int(begins[end]), order):
                break
            at, wanted = end, wanted * GROUP_GROWTH
        return found

    def known_ids(self, lake: LakeSnapshot, window: Window, log: pa.Table, budget: Budget) -> pa.ChunkedArray:
        """See `Engine.known_ids`. A copy of a record has the record's sequence, so few files are looked into."""
        sequence = sequence_range(log)
        numbers = lake.index.prune(window, sequence)
        if not log.num_rows or not len(numbers):
            return pa.chunked_array([], pa.string())
        text = sql.known_ids(with_sequence=sequence is not None)
        with self._held(lake.index.pick(numbers), budget) as paths:
            parameters = [paths, *bounds(window), *(sequence or ())]
            return self._table(text, parameters, budget, log.select(["message_id"])).column("message_id")

    def daily(self, lake: LakeSnapshot, window: Window, log: pa.Table, budget: Budget) -> list[Day]:
        """See `Engine.daily`."""
        files = lake.index.pick(lake.index.prune(window))
        if not files and not log.num_rows:
            return []
        text = sql.daily(files=bool(files), log=bool(log.num_rows))
        with self._held(files, budget) as paths:
            parameters = sql.daily_parameters([paths, *bounds(window)] if paths else None, log=bool(log.num_rows))
            found = self._table(text, parameters, budget, log if log.num_rows else None)
        return [Day(**row) for row in found.to_pylist()]

    def symbols(self, lake: LakeSnapshot, budget: Budget) -> list[SymbolSpan]:
        """See `Engine.symbols`. What a file holds is asked once."""
        files = lake.index.files
        new = [file for file in files if file.path not in self._spans]
        fresh: dict[str, list[SymbolSpan]] = {}
        for portion in self._files.split(new) if new else ():
            with self._held(portion, budget) as paths:
                remote = {path: file.path for path, file in zip(paths, portion, strict=True)}
                fresh |= {file.path: [] for file in portion}
                for row in self._table(sql.symbols(), [paths], budget).to_pylist():
                    fresh[remote[_escaped(row.pop("filename"))]].append(SymbolSpan(**row))
        if new:
            self._spans = {file.path: self._spans.get(file.path, fresh.get(file.path, [])) for file in files}
        return [span for file in files for span in self._spans.get(file.path, [])]

    @contextlib.contextmanager
    def _held(self, files: Sequence[FileStats], budget: Budget) -> Iterator[list[str]]:
        """Return the files' paths in the form that DuckDB takes; they stay while the block runs."""
        with self._files.hold(files, budget) as paths:
            yield [_escaped(path) for path in paths]

    def _table(self, text: str, parameters: Sequence[Any], budget: Budget, log: pa.Table | None = None) -> pa.Table:
        with self._cursor(budget) as cursor, _registered(cursor, log), budget.interruptible(cursor.interrupt):
            try:
                return cursor.sql(text, params=parameters).to_arrow_table()
            except duckdb.InterruptException as error:
                budget.check()
                raise RetryableError("query: found an interruption, expected an answer") from error
            except (duckdb.OutOfMemoryException, duckdb.OutOfRangeException) as error:
                raise QueryError("end", f"found a window too large to answer ({error}), expected less") from error
            except duckdb.IOException as error:
                raise StorageUnavailableError(f"warehouse: {error}") from error

    @contextlib.contextmanager
    def _cursor(self, budget: Budget) -> Iterator[duckdb.DuckDBPyConnection]:
        budget.check()
        try:
            cursor = self._cursors.get(timeout=budget.remaining_s)
        except queue.Empty:
            raise RetryableError("query: found all cursors busy, expected a free one in time; retry") from None
        try:
            yield cursor
        finally:
            self._cursors.put(cursor)


def _settings(root: Path, memory_bytes: int, threads: int) -> list[tuple[str, str]]:
    """Return DuckDB's settings, the locks last. No spilling: what does not fit is refused."""
    literal = str(root).replace("'", "''")
    allowed = ", ".join(f"'{directory}/'" for directory in (literal, _escaped(literal)))  # patterns are checked as such
    return [
        ("TimeZone", "'UTC'"),
        ("memory_limit", f"'{memory_bytes}B'"),
        ("threads", str(threads)),
        ("temp_directory", "''"),
        ("parquet_metadata_cache", "true"),
        ("validate_external_file_cache", "'NO_VALIDATION'"),  # data files are never written twice
        ("autoload_known_extensions", "false"),
        ("autoinstall_known_extensions", "false"),
        ("allow_community_extensions", "false"),
        ("allowed_directories", f"[{allowed}]"),
        ("enable_external_access", "false"),
        ("lock_configuration", "true"),
    ]


@contextlib.contextmanager
def _registered(cursor: duckdb.DuckDBPyConnection, log: pa.Table | None) -> Iterator[None]:
    if log is None:
        yield
        return
    cursor.register(sql.LOG_VIEW, log)
    try:
        yield
    finally:
        cursor.unregister(sql.LOG_VIEW)


def _group(rows: Int64s, wanted: int) -> int:
    """Return how many files to read next to meet about `wanted` rows."""
    return min(len(rows), int(np.searchsorted(np.cumsum(rows), wanted)) + 1)


def _beyond(found: pa.Table, next_begins_us: int, order: Order) -> bool:
    """Whether no file from the next one on can hold a row that comes before the last one found."""
    last_us: int = found.column("event_time")[-1].value
    return last_us < next_begins_us if order is Order.ASC else last_us > next_begins_us


def _escaped(path: str) -> str:
    """Return a path of which DuckDB's pattern matching takes every character as it is."""
    if not any(character in path for character in "*?["):
        return path
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)
