"""DuckDB as the engine of one process: pruned Parquet files of a pinned snapshot, read by a few locked-down cursors.

The index of a snapshot says which files may matter; DuckDB never looks at a catalog or a directory. Rows are read in
the order of time and only as far as the limit needs.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from k2_core.errors import QueryError, RetryableError, SpecError, StorageUnavailableError
from k2_core.records import TRADES
from k2_query import sql
from k2_query.budget import Budget
from k2_query.engine import Day, SymbolSpan
from k2_query.lake import LakeSnapshot
from k2_query.ordering import Order, top
from k2_query.segments import Int64s, Window

FIRST_GROUP: Final = 2
"""How many times the limit the first files' rows should be: a file holds other symbols and times, too."""
GROUP_GROWTH: Final = 4
_EARLIEST_US: Final = 0
_LATEST_US: Final = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)
"""No record is outside 1990 to 2100 (`k2_core.checks`), and datetimes end somewhere."""
_FILE: Final = "file://"
_SCHEMA: Final = TRADES.table_schema


class DuckDBEngine:
    """See `k2_query.engine.Engine`.

    Args:
        warehouse: The `file://` URL, or path, below which all data files lie.
        memory_bytes: For all queries together.
        threads: For all queries together.
        cursors: How many queries may run at once.

    Raises:
        SpecError: The warehouse is not on a disk.
    """

    def __init__(self, warehouse: str, *, memory_bytes: int, threads: int, cursors: int) -> None:
        if "://" in warehouse.removeprefix(_FILE):
            raise SpecError("K2_WAREHOUSE", repr(warehouse), "a file:// URL: DuckDB reads local disks only as yet")
        root = Path(warehouse.removeprefix(_FILE)).absolute()
        self._connection = duckdb.connect(":memory:")
        for name, value in _settings(root, memory_bytes, threads):
            self._connection.execute(f"SET {name} = {value}")
        self._cursors: queue.Queue[duckdb.DuckDBPyConnection] = queue.Queue()
        for _ in range(cursors):
            self._cursors.put(self._connection.cursor())
        self._spans: dict[str, list[SymbolSpan]] = {}

    def close(self) -> None:
        """Close the database; running queries are interrupted."""
        self._connection.interrupt()
        self._connection.close()

    def rows(self, lake: LakeSnapshot, window: Window, order: Order, limit: int, budget: Budget) -> pa.Table:
        """See `Engine.rows`."""
        index = lake.index
        numbers, begins = index.in_time_order(index.prune(window), newest_first=order is Order.DESC)
        found = _SCHEMA.empty_table()
        text = sql.window_rows(_SCHEMA.names, order)
        at, wanted = 0, FIRST_GROUP * limit
        while at < len(numbers):
            end = at + _group(index.rows[numbers[at:]], wanted)
            paths = _local(index.paths(numbers[at:end].tolist()))
            part = self._table(text, [paths, *_bounds(window), limit], budget).cast(_SCHEMA)
            found = top(pa.concat_tables([found, part]), order, limit) if found.num_rows else part
            if end < len(numbers) and found.num_rows == limit and _beyond(found, int(begins[end]), order):
                break
            at, wanted = end, wanted * GROUP_GROWTH
        return found

    def known_ids(self, lake: LakeSnapshot, window: Window, log: pa.Table, budget: Budget) -> pa.ChunkedArray:
        """See `Engine.known_ids`. A copy of a record has the record's sequence, so few files are looked into."""
        sequence = _sequence_range(log)
        numbers = lake.index.prune(window, sequence)
        if not log.num_rows or not len(numbers):
            return pa.chunked_array([], pa.string())
        parameters = [_local(lake.index.paths(numbers.tolist())), *_bounds(window), *(sequence or ())]
        text = sql.known_ids(with_sequence=sequence is not None)
        return self._table(text, parameters, budget, log.select(["message_id"])).column("message_id")

    def daily(self, lake: LakeSnapshot, window: Window, log: pa.Table, budget: Budget) -> list[Day]:
        """See `Engine.daily`."""
        paths = _local(lake.index.paths(lake.index.prune(window).tolist()))
        if not paths and not log.num_rows:
            return []
        text = sql.daily(files=bool(paths), log=bool(log.num_rows))
        parameters = [paths, *_bounds(window)] if paths else []
        found = self._table(text, parameters, budget, log if log.num_rows else None)
        return [Day(**row) for row in found.to_pylist()]

    def symbols(self, lake: LakeSnapshot, budget: Budget) -> list[SymbolSpan]:
        """See `Engine.symbols`. What a file holds is asked once."""
        paths = _local([file.path for file in lake.index.files])
        new = [path for path in paths if path not in self._spans]
        if new:
            fresh: dict[str, list[SymbolSpan]] = {path: [] for path in new}
            for row in self._table(sql.symbols(), [new], budget).to_pylist():
                fresh[_escaped(row.pop("filename"))].append(SymbolSpan(**row))
            self._spans = {path: self._spans.get(path, fresh.get(path, [])) for path in paths}
        return [span for path in paths for span in self._spans.get(path, [])]

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


def _bounds(window: Window) -> tuple[str | None, datetime, datetime]:
    start, end = (min(max(at, _EARLIEST_US), _LATEST_US) for at in (window.start_us, window.end_us))
    return window.symbol, _moment(start), _moment(end)


def _moment(at_us: int) -> datetime:
    seconds, micros = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=micros)


def _sequence_range(log: pa.Table) -> tuple[int, int] | None:
    """Return the least and greatest sequence, or None where a row has none."""
    sequence = log.column("sequence")
    if sequence.null_count or not log.num_rows:
        return None
    numbers = sequence.to_numpy()
    return int(numbers.min()), int(numbers.max())


def _local(paths: Sequence[str]) -> list[str]:
    return [_escaped(path.removeprefix(_FILE)) for path in paths]


def _escaped(path: str) -> str:
    """Return a path of which DuckDB's pattern matching takes every character as it is."""
    if not any(character in path for character in "*?["):
        return path
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)
