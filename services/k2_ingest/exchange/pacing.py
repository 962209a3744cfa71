"""When each message is due, and the exchange's two sources put on that clock.

Owns the translation of a source into events with due times. Called by the pump in `server`. Pure: elapsed time and the
current time are arguments. It holds one item ahead, never a queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from k2_ingest.exchange.captures import Captures
from k2_ingest.exchange.config import SyntheticSource
from k2_ingest.exchange.messages import CapturedEvent, Event, SyntheticEvent, Trade
from k2_ingest.exchange.synthetic import Draft, Market


class Schedule(Protocol):
    """A source on a clock; `next_due_s` is the offset of the next event from the start, None after the last."""

    next_due_s: float | None

    def take(self, elapsed_s: float, now_us: int, most: int) -> list[Event]:
        """Up to `most` events that are due `elapsed_s` after the start; `now_us` is the time they happen at."""


class CaptureSchedule:
    """A capture at a multiple of its own pace.

    Args:
        captures: The captured events, in receive-time order.
        speed: Multiple of the captured pace; 0 makes everything due at once.
    """

    def __init__(self, captures: Captures, speed: float) -> None:
        self._events = iter(captures)
        self._speed = speed
        self._next = next(self._events, None)
        self._first_ns = self._next.receive_ns if self._next else 0
        self.next_due_s = self._due_s()

    def _due_s(self) -> float | None:
        if self._next is None:
            return None
        return (self._next.receive_ns - self._first_ns) / 1e9 / self._speed if self._speed else 0.0

    def take(self, elapsed_s: float, now_us: int, most: int) -> list[Event]:
        """The events that are due; captured events keep the times they were captured with."""
        del now_us
        if self._next is None:
            return []
        if not self._speed:
            return self._take_all(most)
        taken: list[Event] = []
        while self._next is not None and len(taken) < most and (self.next_due_s or 0.0) <= elapsed_s:
            taken.append(self._next)
            self._advance(next(self._events, None))
        return taken

    def _take_all(self, most: int) -> list[Event]:
        taken: list[Event] = [self._next] if self._next else []
        taken += islice(self._events, most - 1)
        self._advance(next(self._events, None))
        return taken

    def _advance(self, event: CapturedEvent | None) -> None:
        self._next = event
        self.next_due_s = self._due_s()


class SyntheticSchedule:
    """A generated market at a mean rate.

    Args:
        source: What to generate, how fast and how much.
    """

    def __init__(self, source: SyntheticSource) -> None:
        market = Market(source.symbols, source.seed, source.first_trade_ids)
        self._drafts: Iterator[Draft] = islice(market, source.count)
        self._streams = {symbol: f"{symbol.lower()}@trade" for symbol in source.symbols}
        self._mean_gap_s = 1 / source.rate if source.rate else 0.0
        self._order_ids = source.order_ids
        self._due_s = 0.0
        self._next = next(self._drafts, None)
        self.next_due_s = None if self._next is None else 0.0

    def take(self, elapsed_s: float, now_us: int, most: int) -> list[Event]:
        """The trades that are due, all of them happening now."""
        taken: list[Event] = []
        draft = self._next
        while draft is not None and len(taken) < most and self._due_s <= elapsed_s:
            symbol, trade_id, price, quantity, maker, _ = draft
            trade = Trade(symbol, trade_id, price, quantity, now_us, maker)
            taken.append(SyntheticEvent(self._streams[symbol], trade, self._order_ids))
            draft = next(self._drafts, None)
            if draft is not None:
                self._due_s += draft.gap * self._mean_gap_s
        self._next = draft
        self.next_due_s = None if draft is None else self._due_s
        return taken
