"""What an engine must do: the contract of `duckdb_engine` and `trino_engine`, which one suite of tests holds both to.

An engine reads one pinned snapshot and nothing else: it knows no Kafka, no boundary and no HTTP. It takes rows of the
log only to answer with both, where an aggregate cannot be put together afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Protocol

import pyarrow as pa

from k2_query.budget import Budget
from k2_query.lake import LakeSnapshot
from k2_query.ordering import Order
from k2_query.segments import Window


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day of one symbol. `notional` is the sum of price times quantity, exact to 16 places."""

    day: date
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    notional: Decimal
    trades: int


@dataclass(frozen=True, slots=True)
class SymbolSpan:
    """Where one symbol is found. Times in UTC microseconds, inclusive."""

    symbol: str
    exchange: str
    market: str
    asset_class: str
    first_us: int
    last_us: int


class Engine(Protocol):
    """Reads a pinned snapshot.

    Every method raises QueryError where the question needs more than an engine may use, RetryableError when the
    budget is over or storage or the engine does not answer, and EngineError where an engine of its own refuses until
    somebody changes something. A window has a symbol in all of them.
    """

    def rows(self, lake: LakeSnapshot, window: Window, order: Order, limit: int, budget: Budget) -> pa.Table:
        """Return the first rows of a window, in the table's form."""

    def known_ids(self, lake: LakeSnapshot, window: Window, log: pa.Table, budget: Budget) -> pa.ChunkedArray:
        """Return which message ids of the log's rows the snapshot holds within the window."""

    def daily(self, lake: LakeSnapshot, window: Window, log: pa.Table, budget: Budget) -> list[Day]:
        """Return the days of a window, from the snapshot and from rows of the log that it does not hold."""

    def symbols(self, lake: LakeSnapshot, budget: Budget) -> list[SymbolSpan]:
        """Return the symbols of the snapshot, each once."""

    def check(self, lake: LakeSnapshot, budget: Budget) -> None:
        """Return if a question about a snapshot would be answered now; else raise what it would."""

    def close(self) -> None:
        """Give everything back."""
