"""Whether anything is missing: one counter a symbol, where the venue counts its trades without gaps.

Owns what was seen, what is missing (as ranges) and what came twice. Called by the hot loop for each trade and by the
service for metrics and logs. Pure. It never drops a trade: a duplicate goes into the log like any other record, the
sink keeps one of them. `missing` is where a repair (historicalTrades) takes its work from, and `observe` is how it
reports what it has found.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum


class Arrival(Enum):
    """How a trade id stands to those before it."""

    IN_ORDER = "in_order"
    AFTER_GAP = "after_gap"  # ids before it are missing now
    LATE = "late"  # it was missing, and closes (part of) a gap
    DUPLICATE = "duplicate"


class SequenceTracker:
    """The ids of one symbol.

    Args:
        next_id: The id expected first, from the end of the log; None takes whatever comes first.

    Attributes:
        next_id: The id expected next; None before the first.
        duplicates: Ids that came again.
        gaps_opened: Gaps seen, closed ones included.
    """

    def __init__(self, next_id: int | None = None) -> None:
        self.next_id = next_id
        self.duplicates = 0
        self.gaps_opened = 0
        self._starts: list[int] = []
        self._ends: list[int] = []

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Open gaps as half-open ranges of ids, ascending."""
        return list(zip(self._starts, self._ends, strict=True))

    @property
    def missing_count(self) -> int:
        """Ids that are missing."""
        return sum(self._ends) - sum(self._starts)

    @property
    def longest_gap(self) -> int:
        """Ids in the longest open gap, 0 without one."""
        return max((end - start for start, end in zip(self._starts, self._ends, strict=True)), default=0)

    def observe(self, trade_id: int) -> Arrival:
        """Take notice of a trade id."""
        if trade_id == self.next_id or self.next_id is None:
            self.next_id = trade_id + 1
            return Arrival.IN_ORDER
        if trade_id > self.next_id:
            self._starts.append(self.next_id)
            self._ends.append(trade_id)
            self.gaps_opened += 1
            self.next_id = trade_id + 1
            return Arrival.AFTER_GAP
        return self._close(trade_id)

    def _close(self, trade_id: int) -> Arrival:
        at = bisect_right(self._starts, trade_id) - 1
        if at < 0 or trade_id >= self._ends[at]:
            self.duplicates += 1
            return Arrival.DUPLICATE
        start, end = self._starts[at], self._ends[at]
        pieces = [piece for piece in ((start, trade_id), (trade_id + 1, end)) if piece[0] < piece[1]]
        self._starts[at : at + 1] = [piece[0] for piece in pieces]
        self._ends[at : at + 1] = [piece[1] for piece in pieces]
        return Arrival.LATE
