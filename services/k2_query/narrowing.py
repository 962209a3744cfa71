"""What of a question lets an engine leave out files: times as datetimes that every engine can hold, and sequences.

Pure. Called by the engines.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from k2_query.segments import Window

_EARLIEST_US: Final = 0
_LATEST_US: Final = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)
"""No record is outside 1990 to 2100 (`k2_core.checks`), and datetimes end somewhere."""


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


def _moment(at_us: int) -> datetime:
    seconds, micros = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=micros)
