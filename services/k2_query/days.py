"""Days of trades put together from parts that hold different trades: the table's and the log's.

Pure. Called by `k2_query.trino_engine`: an engine in another process cannot be handed the log's rows, so each side sums
up its own, exactly, and says of its first and last trade where they stand in the order of trades.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2_core.errors import QueryError
from k2_core.records import OFF_MARKET_KEY
from k2_query.engine import Day
from k2_query.ordering import Order, top
from k2_query.sql import WITH_OFF_MARKET

Place = tuple[datetime, bool, int, str]
"""Where a trade stands in the order of `k2_query.ordering`: time, whether it has no sequence, the sequence or 0, id.
Compared as tuples, they are in that order."""

_DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1)
_MAX_DIGITS: Final = 38
"""Of a sum: what DECIMAL holds in DuckDB and in Trino."""
_PRICE: Final = pa.decimal256(18, 8)
_QUANTITY: Final = pa.decimal256(28, 8)


@dataclass(frozen=True, slots=True)
class DayPart:
    """Some of the trades of one day.

    Args:
        day: Their figures.
        first: Where the trade stands whose price is `day.open`.
        last: Where the trade stands whose price is `day.close`.
    """

    day: Day
    first: Place
    last: Place


def parts_of(log: pa.Table) -> list[DayPart]:
    """Return the days of rows in the table's form, in order, without prints that were agreed off the market.

    Raises:
        QueryError: A sum has more digits than an engine's would have.
    """
    rows = top(_counting(log), Order.ASC, log.num_rows)
    days = rows.column("event_time").cast(pa.int64()).to_numpy() // _DAY_US
    begins = [*np.flatnonzero(np.diff(days, prepend=-1)).tolist(), len(days)]
    return [_part(rows.slice(begin, end - begin)) for begin, end in pairwise(begins)]


def merged(parts: Iterable[DayPart]) -> list[Day]:
    """Return whole days, in order; no trade may be in two parts.

    Raises:
        QueryError: A sum has more digits than an engine's would have.
    """
    by_day: dict[date, DayPart] = {}
    for part in parts:
        known = by_day.get(part.day.day)
        by_day[part.day.day] = part if known is None else _both(known, part)
    return [by_day[day].day for day in sorted(by_day)]


def _counting(log: pa.Table) -> pa.Table:
    marks = pc.map_lookup(log.column("vendor_data"), pa.scalar(OFF_MARKET_KEY), "last")
    return log.filter(pc.or_(pc.is_null(marks), pc.not_equal(log.column("asset_class"), WITH_OFF_MARKET)))


def _part(rows: pa.Table) -> DayPart:
    price, quantity = rows.column("price"), rows.column("quantity")
    [first, last] = list(_places(pa.concat_tables([rows.slice(0, 1), rows.slice(rows.num_rows - 1)])))
    day = Day(
        day=_EPOCH + timedelta(days=rows.column("event_time")[0].value // _DAY_US),
        open=price[0].as_py(),
        high=pc.max(price).as_py(),
        low=pc.min(price).as_py(),
        close=price[-1].as_py(),
        volume=_checked(pc.sum(quantity.cast(_QUANTITY)).as_py()),
        notional=_checked(pc.sum(pc.multiply(price.cast(_PRICE), quantity.cast(_QUANTITY))).as_py()),
        trades=rows.num_rows,
    )
    return DayPart(day, first, last)


def _places(rows: pa.Table) -> Iterator[Place]:
    for row in rows.select(["event_time", "sequence", "message_id"]).to_pylist():
        yield row["event_time"], row["sequence"] is None, row["sequence"] or 0, row["message_id"]


def _both(one: DayPart, other: DayPart) -> DayPart:
    opens, closes = min(one, other, key=lambda part: part.first), max(one, other, key=lambda part: part.last)
    with localcontext(prec=2 * _MAX_DIGITS):
        day = Day(
            day=one.day.day,
            open=opens.day.open,
            high=max(one.day.high, other.day.high),
            low=min(one.day.low, other.day.low),
            close=closes.day.close,
            volume=_checked(one.day.volume + other.day.volume),
            notional=_checked(one.day.notional + other.day.notional),
            trades=one.day.trades + other.day.trades,
        )
    return DayPart(day, opens.first, closes.last)


def _checked(total: Decimal) -> Decimal:
    digits = len(total.as_tuple().digits)
    if digits > _MAX_DIGITS:
        raise QueryError("end", f"found a window too large to answer (a sum of {digits} digits), expected less")
    return total
