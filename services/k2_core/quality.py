"""What stands out in trades: the checks that enrichment makes, summed up by symbol, and the table that holds them.

Never part of the path from the log to the trades table: `k2_sink.checking` looks at what was committed. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema

from k2_core.errors import StateError
from k2_core.multiples import off_step
from k2_core.records import OFF_MARKET_KEY, UTC_MICROSECONDS, iceberg_schema
from k2_core.reference import References, lots, ticks

CLOCK_TOLERANCE_US: Final = 1_000
"""Venues tell time in milliseconds: that much earlier a trade may seem to have been received."""
CHECKED_KEY: Final = "k2.checked"
"""The property of the table that says how far it goes."""
CHECKED_FORMAT: Final = 1


class Check(StrEnum):
    """What is looked for."""

    CLOCK_OFFSET = "clock_offset"
    """Received before it was traded: a clock is wrong, the receiver's or the venue's."""
    OFF_MARKET = "off_market"
    """Reported to the venue and not traded in its order book: not for a chart."""
    OFF_LOT = "off_lot"
    """Of a quantity that is no multiple of the symbol's step size."""
    OFF_TICK = "off_tick"
    """At a price that is no multiple of the symbol's tick size."""
    UNLISTED_SYMBOL = "unlisted_symbol"
    """Of a symbol that the pipeline does not name, as after it was taken out of the list."""


COLUMNS: Final = (
    *("message_id", "symbol", "exchange", "market", "exchange_timestamp", "receive_timestamp", "event_time"),
    "vendor_data",
)
"""Of trades, those that every check looks at; see `columns`."""

_FINDINGS: Final[tuple[tuple[pa.Field, str], ...]] = (
    (
        pa.field("finding", pa.string(), nullable=False),
        "clock_offset, off_lot, off_market, off_tick or unlisted_symbol",
    ),
    (pa.field("exchange", pa.string(), nullable=False), "Of the trades"),
    (pa.field("market", pa.string(), nullable=False), "Of the trades"),
    (pa.field("symbol", pa.string(), nullable=False), "Of the trades"),
    (pa.field("trades", pa.int64(), nullable=False), "How many it was found in"),
    (pa.field("first_event_time", UTC_MICROSECONDS, nullable=False), "Of the earliest of them"),
    (pa.field("last_event_time", UTC_MICROSECONDS, nullable=False), "Of the latest of them"),
    (pa.field("example", pa.string(), nullable=False), "The message_id of one of them, the least"),
    (
        pa.field("least_delay_us", pa.int64()),
        "receive_timestamp - exchange_timestamp of them, microseconds; null where none has an exchange_timestamp",
    ),
    (pa.field("greatest_delay_us", pa.int64()), "The same, the greatest"),
    (
        pa.field("from_sequence_number", pa.int64(), nullable=False),
        "What was looked at: from this Iceberg sequence number of the trades table",
    ),
    (pa.field("to_sequence_number", pa.int64(), nullable=False), "To this one, inclusive"),
)
FINDINGS: Final = pa.schema([field for field, _ in _FINDINGS])
"""The Arrow form of a row of the table."""


@dataclass(frozen=True)
class QualityTable:
    """The table `quality`: a row for each symbol and finding, of what was looked at together."""

    name: ClassVar[str] = "quality"
    partitioned: ClassVar[bool] = False

    @cached_property
    def iceberg_schema(self) -> Schema:
        """The Iceberg form of a row."""
        return iceberg_schema(FINDINGS, {field.name: meaning for field, meaning in _FINDINGS})


QUALITY: Final = QualityTable()


@dataclass(frozen=True, slots=True)
class Checked:
    """How far a trades table was looked at.

    Args:
        table: Its UUID: another one of the same name begins anew.
        sequence_number: Of Iceberg; everything up to it, inclusive.
    """

    table: str
    sequence_number: int = 0

    def dump(self) -> str:
        """Return it as the property's text."""
        return json.dumps({"format": CHECKED_FORMAT, "table": self.table, "sequence_number": self.sequence_number})

    @classmethod
    def of(cls, properties: Mapping[str, str], table: str) -> Checked:
        """Return how far a table was looked at, by the properties of the table of findings.

        Raises:
            StateError: The property holds something else.
        """
        text = properties.get(CHECKED_KEY)
        if text is None:
            return cls(table)
        try:
            found = json.loads(text)
            checked = {CHECKED_FORMAT: cls(str(found["table"]), int(found["sequence_number"]))}[found["format"]]
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{CHECKED_KEY}: found {text!r}, expected format {CHECKED_FORMAT} with table and sequence_number; "
                "drop the table quality to have everything checked anew"
            ) from error
        return checked if checked.table == table else cls(table)


def columns(known: References) -> list[str]:
    """Return the columns of trades that checks look at: without reference data no more than `COLUMNS`."""
    return [*COLUMNS, *(["price"] if ticks(known) else []), *(["quantity"] if lots(known) else [])]


def findings(
    trades: pa.Table, listed: Collection[str], known: References, sequence_numbers: tuple[int, int]
) -> pa.Table:
    """Return what stands out, a row for each symbol and finding, in that order.

    Args:
        trades: With `columns(known)`.
        listed: The symbols that the pipeline names.
        known: What it says of them.
        sequence_numbers: Of what the trades are from, inclusive.

    Returns:
        In the form FINDINGS.
    """
    delay = pc.subtract(
        trades.column("receive_timestamp").cast(pa.int64()), trades.column("exchange_timestamp").cast(pa.int64())
    )
    flags = {
        Check.CLOCK_OFFSET: pc.less(delay, -CLOCK_TOLERANCE_US),
        Check.OFF_MARKET: _is_off_market(trades.column("vendor_data")),
        Check.UNLISTED_SYMBOL: pc.invert(
            pc.is_in(trades.column("symbol"), value_set=pa.array(sorted(listed), pa.string()))
        ),
    }
    if sizes := ticks(known):
        flags[Check.OFF_TICK] = off_step(trades, "price", sizes)
    if sizes := lots(known):
        flags[Check.OFF_LOT] = off_step(trades, "quantity", sizes)
    rows = trades.select(["exchange", "market", "symbol", "event_time", "message_id"]).append_column("delay", delay)
    found = pa.concat_tables(_summed(check, rows.filter(flag), sequence_numbers) for check, flag in flags.items())
    return found.sort_by([(name, "ascending") for name in ("symbol", "exchange", "market", "finding")])


def _is_off_market(vendor_data: pa.ChunkedArray) -> pa.ChunkedArray:
    marks = pc.map_lookup(vendor_data, pa.scalar(OFF_MARKET_KEY), "last")
    return pc.fill_null(pc.equal(marks, "true"), fill_value=False)


def _summed(check: Check, rows: pa.Table, sequence_numbers: tuple[int, int]) -> pa.Table:
    names = ["exchange", "market", "symbol"]
    sums = [("message_id", "count"), ("event_time", "min"), ("event_time", "max"), ("message_id", "min")]
    by_symbol = rows.group_by(names).aggregate([*sums, ("delay", "min"), ("delay", "max")])
    count = by_symbol.num_rows
    columns = [
        pa.repeat(pa.scalar(check.value, pa.string()), count),
        *(by_symbol.column(name) for name in names),
        *(by_symbol.column(f"{name}_{what}") for name, what in [*sums, ("delay", "min"), ("delay", "max")]),
        *(pa.repeat(pa.scalar(number, pa.int64()), count) for number in sequence_numbers),
    ]
    return pa.Table.from_arrays(columns, schema=FINDINGS)
