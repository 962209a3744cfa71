"""What Avro cannot say about a record: prices above zero, numbers within their precision, times of this century.

Vectorised; called by the codec on every batch, so that the sink and the query service refuse the same records. Level 0
work that no level switches off: it is what keeps numbers exact. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""Electronic tick archives begin in the 1990s; milliseconds or seconds taken for microseconds land in 1970."""
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""Microseconds taken for milliseconds land in the year 58000."""

_NUMBER_COLUMNS: Final = ("price", "quantity", "bid_price", "bid_quantity", "ask_price", "ask_quantity")
_TIME_COLUMNS: Final = ("exchange_timestamp", "receive_timestamp")
_LAST_SEQUENCE: Final = 2**63 - 2
"""So that the end of a half-open range of sequences is an int64 too (`k2_core.intervals`)."""
_TEXT_COLUMNS: Final = ("message_id", "symbol")
_SIDES: Final = pa.array(["buy", "sell"])


def find_invalid(rows: pa.Table) -> Mapping[int, tuple[str, str]]:
    """Return the rows that must not enter a table, each with a stable reason and what was found and expected."""
    if not rows.num_rows:
        return {}
    found: dict[int, tuple[str, str]] = {}
    for problems in (_numbers(rows), _times(rows), _sequences(rows), _texts(rows), _sides(rows)):
        for row, problem in problems:
            found.setdefault(row, problem)
    return found


def _numbers(rows: pa.Table) -> Iterator[tuple[int, tuple[str, str]]]:
    for name in _NUMBER_COLUMNS:
        column = _column(rows, name)
        if column is None:
            continue
        limit = Decimal(10) ** (column.type.precision - column.type.scale)
        smallest = Decimal(1).scaleb(-column.type.scale)
        expected = f"expected more than 0 and less than {limit:f}"
        for row, value in _outside(column, smallest, limit - smallest):
            reason = f"{name}_not_positive" if value <= 0 else f"{name}_precision"
            yield row, (reason, f"found {name} {value:f}, {expected}")


def _times(rows: pa.Table) -> Iterator[tuple[int, tuple[str, str]]]:
    for name in _TIME_COLUMNS:
        column = _column(rows, name)
        if column is None:
            continue
        low, high = (pa.scalar(limit, column.type).value for limit in (EARLIEST, LATEST))
        for row, value in _outside(column.cast(pa.int64()), low, high):
            expected = f"expected {EARLIEST.year} to {LATEST.year}"
            yield row, (f"{name}_range", f"found {name} {value} us since 1970, {expected}")


def _sequences(rows: pa.Table) -> Iterator[tuple[int, tuple[str, str]]]:
    column = _column(rows, "sequence")
    if column is not None:
        for row, value in _outside(column, 0, _LAST_SEQUENCE):
            yield row, ("sequence_range", f"found sequence {value}, expected 0 to {_LAST_SEQUENCE}")


def _texts(rows: pa.Table) -> Iterator[tuple[int, tuple[str, str]]]:
    for name in _TEXT_COLUMNS:
        column = _column(rows, name)
        if column is not None and pc.min(pc.binary_length(column)).as_py() == 0:
            for row in _true_rows(pc.equal(pc.binary_length(column), 0)):
                yield row, (f"{name}_empty", f"found an empty {name}, expected text")


def _sides(rows: pa.Table) -> Iterator[tuple[int, tuple[str, str]]]:
    column = _column(rows, "side")
    if column is None:
        return
    known = pc.or_kleene(pc.is_in(column, _SIDES), pc.is_null(column))
    if not pc.all(known).as_py():
        for row in _true_rows(pc.invert(known)):
            yield row, ("side_unknown", f"found side {column[row].as_py()!r}, expected buy, sell or null")


def _column(rows: pa.Table, name: str) -> pa.ChunkedArray | None:
    return rows.column(name) if name in rows.schema.names else None


def _outside(column: pa.ChunkedArray, low: object, high: object) -> Iterator[tuple[int, Any]]:
    """Yield the rows whose value is below `low` or above `high`; looks at single rows only if there is one."""
    extremes = pc.min_max(column).as_py()
    if extremes["min"] is None or (extremes["min"] >= low and extremes["max"] <= high):
        return
    low_scalar, high_scalar = pa.scalar(low, column.type), pa.scalar(high, column.type)
    wrong = pc.or_(pc.less(column, low_scalar), pc.greater(column, high_scalar))
    for row in _true_rows(wrong):
        yield row, column[row].as_py()


def _true_rows(mask: pa.ChunkedArray) -> list[int]:
    return [int(row) for row in np.flatnonzero(pc.fill_null(mask, False).to_numpy())]
