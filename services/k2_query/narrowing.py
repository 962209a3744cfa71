"""What of a question lets an engine leave out files: times as datetimes that every engine can hold, sequences, a limit.

Pure. Called by the engines.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa

from k2_query.file_index import FileIndex
from k2_query.ordering import Order
from k2_query.segments import Window

_EARLIEST_US: Final = 0
_LATEST_US: Final = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)
"""No record is outside 1990 to 2100 (`k2_core.checks`), and datetimes end somewhere."""

ROWS_FOR_ONE: Final = 8
"""Rows of a file that are probably enough to meet one of the window: a file holds other symbols, too."""
LEAST_ROWS: Final = 200_000
"""What an engine reads in less time than a second question takes."""


def bounds(window: Window) -> tuple[str | None, datetime, datetime]:
    """Return a window's symbol, start (inclusive) and end (exclusive), both in UTC between 1970 and 2200."""
    start, end = (min(max(at, _EARLIEST_US), _LATEST_US) for at in (window.start_us, window.end_us))
    return window.symbol, _moment(start), _moment(end)


def sequence_range(log: pa.Table) -> tuple[int, int] | None:
    """Return the least and greatest sequence of rows, or None where a row has none or there are no rows."""
    sequence = log.column("sequence")
    if sequence.null_count or not log.num_rows:
        return None
    numbers = sequence.to_numpy()
    return int(numbers.min()), int(numbers.max())


def first_part(index: FileIndex, window: Window, order: Order, limit: int) -> Window | None:
    """Return the part of a window that a first question is to be about; None for all of it.

    Rows that come first in an order lie in the files that begin first, so the part ends where the files begin that are
    probably not needed. If the part holds as many rows as the limit, they are the first ones of the window.
    """
    descending = order is Order.DESC
    numbers, begins = index.in_time_order(index.prune(window), newest_first=descending)
    rows = np.cumsum(index.rows[numbers])
    enough = int(np.searchsorted(rows, max(limit * ROWS_FOR_ONE, LEAST_ROWS))) + 1
    if enough >= len(numbers):
        return None
    edge = int(begins[enough])
    part = replace(window, start_us=edge + 1) if descending else replace(window, end_us=edge)
    return part if window.start_us <= part.start_us < part.end_us <= window.end_us else None


def _moment(at_us: int) -> datetime:
    seconds, micros = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=micros)
