"""The text of every query to Trino.

Pure. Values are `?` parameters, which Trino binds; what is in a text beside them comes from the record's schema, from
the settings (the names of catalog and schema, quoted) and from the catalog (the snapshot's number).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from k2_core.records import OFF_MARKET_KEY
from k2_query.ordering import Order
from k2_query.sql import WITH_OFF_MARKET, identifiers, sort_keys

_WINDOW: Final = "symbol = ? AND event_time >= ? AND event_time < ?"
_PLACE: Final = "ROW(event_time, sequence IS NULL, coalesce(sequence, 0), message_id)"
"""A row's place in the order of trades: `k2_query.days.Place`. Trino does not compare rows that hold NULLs."""
_COUNTS: Final = "AND (asset_class <> ? OR element_at(vendor_data, ?) IS NULL)"
OFF_MARKET: Final = (WITH_OFF_MARKET, OFF_MARKET_KEY)
"""The last parameters of `daily`."""
_SPANS: Final = '"$path" AS path, symbol, exchange, market, asset_class, min(event_time), max(event_time)'


@dataclass(frozen=True, slots=True)
class Source:
    """One snapshot of a table.

    Args:
        catalog: As Trino calls it.
        schema: The table's namespace.
        table: Its name.
        snapshot_id: The snapshot's number.
    """

    catalog: str
    schema: str
    table: str
    snapshot_id: int

    @property
    def text(self) -> str:
        """What follows FROM. Trino takes no parameter for a version; this is a number of the catalog's."""
        name = ".".join(quoted(part) for part in (self.catalog, self.schema, self.table))
        return f"{name} FOR VERSION AS OF BIGINT '{self.snapshot_id:d}'"


def any_row(source: Source | None, columns: Sequence[str]) -> str:
    """Return a question for any one row of a snapshot, or for nothing where there is none; without parameters."""
    return "SELECT 1" if source is None else _select(identifiers(columns), source, "true", "LIMIT 1")


def window_rows(source: Source, columns: Sequence[str], order: Order) -> str:
    """Return the first rows of a window; parameters: symbol, start, end, limit."""
    return _select(identifiers(columns), source, _WINDOW, "ORDER BY", sort_keys(order), "LIMIT ?")


def known_ids(source: Source, *, with_sequence: bool) -> str:
    """Return which ids of a JSON array the snapshot holds within a window.

    Parameters: symbol, start, end, with a sequence its least and greatest value, and the array as one text, so that
    the query's own text is the same for any number of ids.
    """
    sequence = "AND sequence BETWEEN ? AND ?" if with_sequence else ""
    among = "AND message_id IN (SELECT id FROM UNNEST(CAST(json_parse(?) AS array(varchar))) AS asked(id))"
    return _select("message_id", source, _WINDOW, sequence, among)


def daily(source: Source) -> str:
    """Return one row a UTC day with the places of its first and last trade, without prints agreed off the market.

    Parameters: symbol, start, end, and `OFF_MARKET`. Sums are exact: the notional has 16 decimal places. Columns: day,
    open, high, low, close, volume, notional, trades, first place, last place.
    """
    trades = _select("event_time, price, quantity, " + _PLACE + " AS place", source, _WINDOW, _COUNTS)
    figures = (
        "CAST(event_time AS date) AS day, min_by(price, place), max(price), min(price), max_by(price, place), "
        "sum(quantity), sum(price * quantity), count(*), min(place), max(place)"
    )
    return " ".join(["SELECT", figures, "FROM (", trades, ") GROUP BY 1 ORDER BY 1"])


def symbols(source: Source, paths: int) -> str:
    """Return what data files hold: path, symbol, exchange, market, asset class, first and last event time.

    Parameters: the paths of so many files; 0 means all files of the snapshot, without any parameter.
    """
    among = f'"$path" IN ({", ".join("?" * paths)})' if paths else "true"
    return _select(_SPANS, source, among, "GROUP BY 1, 2, 3, 4, 5")


def _select(what: str, source: Source, *rest: str) -> str:
    return " ".join(["SELECT", what, "FROM", source.text, "WHERE", *filter(None, rest)])


def quoted(name: str) -> str:
    """Return a name as an identifier."""
    return '"' + name.replace('"', '""') + '"'
