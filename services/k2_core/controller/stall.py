"""Whether sinks hang: there is something to read, nothing of it is read, and no sink says anything.

A sink that hangs may stay in its group for minutes, as heartbeats come from a thread of its own; what it would tell is
then not unknown for a moment only. Called by `k2_core.controller.loop` with each look. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from k2_core.controller.lag import LogPartition, total
from k2_core.controller.look import Look
from k2_core.types import Offset

STALLED_AFTER_S: Final = 30.0
"""Longer than a sink takes to write and commit, or to come up. A hang that ends sooner costs a lag and no level."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Sinks that take nothing in although there is something.

    Args:
        seconds: For how long that was seen, at least.
        unread_records: What there is.
        sinks: Who spoke last, by the names in their reports; nobody if no sink ever spoke.
    """

    seconds: float
    unread_records: int
    sinks: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"for {self.seconds:.0f} s no sink has read any of {self.unread_records:,} unread records or said "
            f"anything; {self.way_out}"
        )

    @property
    def way_out(self) -> str:
        """Who hangs and what to do, in words that stay the same while it lasts."""
        last = f"the last to speak was {', '.join(self.sinks)}" if self.sinks else "no sink has ever spoken"
        return (
            f"{last}. See its log; if nothing goes on there, end its process: it is started again, and nothing is lost"
        )


class StallWatch:
    """Compares each look with those before it."""

    def __init__(self) -> None:
        self._positions: Mapping[LogPartition, Offset | None] = {}
        self._since: datetime | None = None

    def seen(self, look: Look) -> Stall | None:
        """Take one look in, and return the stall that it shows, if any."""
        positions = {one.at: one.read for one in look.partitions}
        moved, self._positions = positions != self._positions, positions
        unread = total(look.partitions).unread
        speaks = any(report.fresh(look.at) for report in look.reports.values())
        if moved or speaks or look.rebalancing or not unread:
            self._since = None
            return None
        if self._since is None or self._since > look.at:  # the first such look, or a clock that was set back
            self._since = look.at
        seconds = (look.at - self._since).total_seconds()
        return Stall(seconds, unread, _last_to_speak(look)) if seconds >= STALLED_AFTER_S else None


def _last_to_speak(look: Look) -> tuple[str, ...]:
    """Return whose last word is about as young as the youngest: sinks of before spoke long ago."""
    last = max((report.at for report in look.reports.values()), default=None)
    if last is None:
        return ()
    return tuple(sorted(name for name, report in look.reports.items() if report.fresh(last)))
