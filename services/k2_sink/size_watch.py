"""How near the log of a topic that is bounded in bytes is to removing something, as the sink sees it.

It knows where partitions end from what it fetches, and the bytes of a record from its client. What is not known hurries
nobody. Called by the sink's loop and its drain; the arithmetic is in `k2_core.retention`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from k2_core.retention import capacity_records
from k2_core.state import LedgerEntry
from k2_core.types import TopicName
from k2_sink.protocol import LogPartition

RATE_OVER_S: Final = 30.0
"""Over which the rate of a partition is measured: a burst of seconds does not fill a log."""


class SizeWatch:
    """What is known of the logs' sizes.

    Args:
        limit_bytes: `retention.bytes` of topics that have one.
        clock: Monotonic seconds.
    """

    def __init__(
        self, limit_bytes: Mapping[TopicName, int] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_bytes = limit_bytes or {}
        self._clock = clock
        self.record_bytes: float | None = None
        """Of a record in the log; None while none was received."""
        self._ends: Mapping[LogPartition, int] = {}
        self._since: tuple[float, Mapping[LogPartition, int]] = (clock(), {})
        self._keeps_s = math.inf

    def look(self, ends: Mapping[LogPartition, int], record_bytes: float | None) -> None:
        """Take in where partitions end, and the bytes of a record."""
        self.record_bytes = record_bytes or self.record_bytes
        self._ends = ends
        began_s, before = self._since
        if (lasted_s := self._clock() - began_s) >= RATE_OVER_S:
            shortest = (
                capacity * lasted_s / (ends[at] - before[at])
                for at, capacity in self._capacities().items()
                if at in before and ends[at] > before[at]
            )
            keeps_s = min(shortest, default=math.inf)
            self._keeps_s = min(keeps_s, self._keeps_s)
            self._since = (self._clock(), dict(ends))

    def _capacities(self) -> dict[LogPartition, float]:
        if not self.record_bytes:
            return {}
        return {
            at: capacity_records(self._limit_bytes[at[0]], self.record_bytes)
            for at in self._ends
            if at[0] in self._limit_bytes
        }

    def before(self, share: float) -> dict[LogPartition, int]:
        """Return for each partition the offset from which on so much of its bytes stands, where that is known."""
        return {at: int(self._ends[at] - share * capacity) for at, capacity in self._capacities().items()}

    def used_share(self, owed: Iterable[LedgerEntry]) -> float | None:
        """Return how much of its partition's bytes stands behind an entry that only the log holds, the greatest."""
        capacities = self._capacities()
        return max(
            (
                max(0, self._ends[at] - entry.start) / capacities[at]
                for entry in owed
                if entry.raw_file is None and capacities.get(at := (entry.topic, entry.partition))
            ),
            default=None,
        )

    def forgets_within(self, hours: float) -> bool:
        """Return whether one of the logs kept records for less, at the greatest rate that was measured.

        The greatest and not the last: entries with and without raw files cannot be joined.
        """
        return self._keeps_s < hours * 3600
