"""The trades that were sent, kept compactly to answer the REST API from.

Owns the bounded memory of the exchange: five integers and a flag a trade, the oldest dropped first. Written by the hub,
read by `rest`. It never parses or prints; that is `messages`'.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from k2_ingest.exchange.messages import Trade


class AggregateTrade(NamedTuple):
    """Fills of one taker order at one price: numbered in an id space of their own."""

    aggregate_id: int
    price: int
    quantity: int
    first_id: int
    last_id: int
    time_us: int
    buyer_is_maker: bool


class SymbolHistory:
    """The last trades of one symbol, in the order of their ids.

    Args:
        symbol: Upper-case symbol.
        limit: Trades kept at least; up to a quarter more are held, so that dropping is rare and cheap.
    """

    def __init__(self, symbol: str, limit: int) -> None:
        self.symbol = symbol
        self._limit = limit
        self._ids = array("q")
        self._prices = array("q")
        self._quantities = array("q")
        self._times_us = array("q")
        self._aggregates = array("q")
        self._makers = array("b")

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, trade: Trade) -> None:
        """Remember a trade; one that does not follow the last is forgotten, as a capture may repeat itself."""
        _, trade_id, price, quantity, time_us, maker = trade
        if self._ids and trade_id <= self._ids[-1]:
            return
        self._aggregates.append(self._aggregate_of(price, time_us, maker))
        self._ids.append(trade_id)
        self._prices.append(price)
        self._quantities.append(quantity)
        self._times_us.append(time_us)
        self._makers.append(maker)
        if len(self._ids) > self._limit + self._limit // 4:
            self._drop(len(self._ids) - self._limit)

    def _aggregate_of(self, price: int, time_us: int, maker: bool) -> int:
        """Trades that fill at the same time, from the same taker and at the same price aggregate."""
        if not self._ids:
            return 1
        same = self._prices[-1] == price and self._times_us[-1] == time_us and bool(self._makers[-1]) == maker
        return self._aggregates[-1] + (not same)

    def _drop(self, count: int) -> None:
        for column in (self._ids, self._prices, self._quantities, self._times_us, self._aggregates, self._makers):
            del column[:count]

    def trades(self, from_id: int | None, limit: int) -> list[Trade]:
        """Trades from an id on (inclusive), or the newest ones when `from_id` is None; oldest first."""
        start = max(0, len(self) - limit) if from_id is None else bisect_left(self._ids, from_id)
        return [self._trade(index) for index in range(start, min(start + limit, len(self)))]

    def aggregates(
        self, limit: int, from_id: int | None = None, start_us: int | None = None, end_us: int | None = None
    ) -> list[AggregateTrade]:
        """Aggregate trades by aggregate id or by time (both ends inclusive), or the newest; oldest first."""
        low = bisect_left(self._aggregates, from_id) if from_id is not None else 0
        high = len(self)
        if start_us is not None:
            low = max(low, bisect_left(self._times_us, start_us))
        if end_us is not None:
            high = bisect_right(self._times_us, end_us)
        if low >= high:
            return []
        newest_wanted = from_id is None and start_us is None
        first = self._aggregates[high - 1] - limit + 1 if newest_wanted else self._aggregates[low]
        numbers = range(max(first, self._aggregates[low]), self._aggregates[high - 1] + 1)
        return [self._aggregate(number) for number in numbers[:limit]]

    def _aggregate(self, number: int) -> AggregateTrade:
        low, high = bisect_left(self._aggregates, number), bisect_right(self._aggregates, number)
        total = sum(self._quantities[low:high])
        first = self._trade(low)
        return AggregateTrade(
            number, first.price, total, first.trade_id, self._ids[high - 1], first.time_us, first.buyer_is_maker
        )

    def _trade(self, index: int) -> Trade:
        return Trade(
            self.symbol,
            self._ids[index],
            self._prices[index],
            self._quantities[index],
            self._times_us[index],
            bool(self._makers[index]),
        )


class History:
    """The histories of all symbols.

    Args:
        limit: Trades kept for each symbol.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._symbols: dict[str, SymbolHistory] = {}

    def open(self, symbol: str) -> SymbolHistory:
        """The symbol's history, made when it is new."""
        history = self._symbols.get(symbol)
        if history is None:
            history = self._symbols[symbol] = SymbolHistory(symbol, self._limit)
        return history

    def get(self, symbol: str) -> SymbolHistory | None:
        """The symbol's history, None for a symbol that never traded here."""
        return self._symbols.get(symbol)

    def symbols(self) -> list[str]:
        """All symbols, sorted."""
        return sorted(self._symbols)
