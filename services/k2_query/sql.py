"""The text of every query to DuckDB, and what Trino's (`k2_query.trino_sql`) have in common with them.

Pure. Identifiers come from the record's own schema, values are always `?` parameters; nothing of a request is ever part
of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from k2_core.records import OFF_MARKET_KEY, TRADES
from k2_query.ordering import SORT_KEYS, Order

FILES: Final = "read_parquet(?)"
LOG_VIEW: Final = "log_rows"
"""The name under which an engine registers rows of the log."""

_COLUMNS: Final = frozenset(TRADES.table_schema.names)
_DAILY_COLUMNS: Final = ("event_time", "sequence", "message_id", "price", "quantity")
_DAILY: Final = (
    "SELECT CAST(event_time AS DATE) AS day, "
    "arg_min(price, (event_time, sequence, message_id)) AS open, max(price) AS high, min(price) AS low, "
    "arg_max(price, (event_time, sequence, message_id)) AS close, sum(quantity) AS volume, "
    "sum(price * quantity) AS notional, count(*) AS trades "
    "FROM trades GROUP BY day ORDER BY day"
)


def identifiers(names: Sequence[str]) -> str:
    """Return a list of columns.

    Raises:
        ValueError: One of them is no column of trades.
    """
    unknown = [name for name in names if name not in _COLUMNS]
    if unknown:
        raise ValueError(f"found the columns {unknown}, expected some of {sorted(_COLUMNS)}")
    return ", ".join(names)


def window_rows(columns: Sequence[str], order: Order) -> str:
    """Return the first rows of a window; parameters: files, symbol, start, end, limit."""
    return _join(_select(identifiers(columns)), "ORDER BY", sort_keys(order), "LIMIT ?")


def sort_keys(order: Order) -> str:
    """Return the order of trades (`k2_query.ordering`) as what follows ORDER BY."""
    direction, nulls = ("ASC", "LAST") if order is Order.ASC else ("DESC", "FIRST")
    return ", ".join(f"{key} {direction} NULLS {nulls}" for key in SORT_KEYS)


def known_ids(*, with_sequence: bool) -> str:
    """Return which ids of `LOG_VIEW` the files hold.

    Parameters: files, symbol, start, end, and with a sequence its least and greatest value.
    """
    among = _join("AND message_id IN (SELECT message_id FROM", LOG_VIEW, ")")
    return _join(_select("message_id"), "AND sequence BETWEEN ? AND ?" if with_sequence else "", among)


def daily(*, files: bool, log: bool) -> str:
    """Return one row a UTC day, without prints that were agreed off the market; parameters: `daily_parameters`.

    Sums are exact: `notional` has 16 decimal places. What a vendor says is looked at where the asset class has such
    prints, in a reading of its own: the others' files are passed over by their bounds, and their maps never read.
    """
    names = identifiers(_DAILY_COLUMNS)
    sources = [_join(_select(names), "AND", _ALL_COUNT), _join(_select(names), "AND", _COUNTS)] if files else []
    sources += [_join("SELECT", names, "FROM", LOG_VIEW, "WHERE", _ALL_COUNT, "OR", _COUNTS)] if log else []
    return _join("WITH trades AS (", " UNION ALL ".join(sources), ")", _DAILY)


_ALL_COUNT: Final = "asset_class <> ?"
_COUNTS: Final = "(asset_class = ? AND vendor_data[?] IS NULL)"
WITH_OFF_MARKET: Final = "equities"
"""The asset class whose venues report prints that were agreed off the market."""


def daily_parameters(window: Sequence[Any] | None, *, log: bool) -> list[Any]:
    """Return the parameters of `daily`.

    Args:
        window: Files, symbol, start and end; None without files.
        log: As for `daily`.
    """
    told = [WITH_OFF_MARKET, WITH_OFF_MARKET, OFF_MARKET_KEY]
    of_files = [] if window is None else [*window, *told[:1], *window, *told[1:]]
    return of_files + (told if log else [])


def symbols() -> str:
    """Return what each file holds; parameter: files."""
    return (
        "SELECT filename, symbol, exchange, market, asset_class, "
        "epoch_us(min(event_time)) AS first_us, epoch_us(max(event_time)) AS last_us "
        "FROM read_parquet(?, filename = true) GROUP BY ALL"
    )


def _select(names: str) -> str:
    return _join("SELECT", names, "FROM", FILES, "WHERE symbol = ? AND event_time >= ? AND event_time < ?")


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
