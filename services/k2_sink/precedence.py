"""Which partitions wait unread for a while, so that what is taken in is not read behind what is deferred.

A symbol has one partition, so at a level that defers many partitions often hold nothing that is taken in. After a
commit, or in a burst, all have a backlog; read in turn, the few records that matter stand behind the many that do not.
Called by the sink's loop at each step. Pure but for its clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from typing import Final

from k2_core.types import Level
from k2_sink.deferral import defers_by_key
from k2_sink.protocol import LogPartition

HELD_AT_MOST_S: Final = 5.0
"""What waits is read in turn after this, however much of the rest is left: no partition stands still for long."""
READ_AT_LEAST_S: Final = 10.0
"""Between two times: what was fetched of a held partition is fetched again."""
WORTH_RECORDS: Final = 10_000
"""So many are read in one go: fewer that wait are in nobody's way, and with fewer before them it may be their turn."""
BEHIND_RECORDS: Final = 1_000
"""Fewer that are to be taken in are not worth fetching the others again."""


class Precedence:
    """Learns what each partition holds at the level at work, and holds back those of which everything waits.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._level = Level.NORMAL
        self._waits: dict[LogPartition, bool] = {}
        self._held_at: float | None = None
        self._released_at = clock() - READ_AT_LEAST_S
        self.later = 0
        """Unread records of the partitions of which everything waits, at the last look."""

    def held(
        self, level: Level, waits: Mapping[LogPartition, bool], unread: Mapping[LogPartition, int], *, more: bool
    ) -> Set[LogPartition]:
        """Return the partitions that are not to be read now.

        Args:
            level: That is acted on.
            waits: Of the partitions of which something was read at it, whether everything waits.
            unread: Of the partitions that are owned, how many records are not read yet, as far as that is known.
            more: Whether the last read brought as much as it could. Ends move on while they are read up to: that
                nothing is unread is seldom seen, that a read was not full is.
        """
        if level is not self._level:
            self._level, self._waits = level, {}
        self._waits |= waits
        behind = {at for at in unread if defers_by_key(level) and self._waits.get(at, False)}
        first = sum(count for at, count in unread.items() if at not in behind)
        self.later = sum(unread[at] for at in behind)
        now = self._clock()
        if self._held_at is None:
            due = now - self._released_at >= READ_AT_LEAST_S
            if due and first >= BEHIND_RECORDS and self.later >= WORTH_RECORDS:
                self._held_at = now
        elif (not more and first < WORTH_RECORDS) or not behind or now - self._held_at >= HELD_AT_MOST_S:
            self._held_at, self._released_at = None, now
        return behind if self._held_at is not None else frozenset()
