"""What a sink says of itself each second, beside its read positions; see `k2_core.sink_report`.

Keeps the counts since the process began. Called by the sink's loop.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from k2_core.memory import memory_ratio
from k2_core.sink_report import SinkReport
from k2_core.state import LedgerEntry, owed_records
from k2_core.types import Level


def _name() -> str:
    return uuid.uuid4().hex[:12]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Telling:
    """What is told.

    Args:
        own_level: To which the process has raised itself.
        name: Of the process; another process is another sink.
        memory: Returns the share of the memory limit in use, None if it is not known.
        now: UTC.
        accepted: Records read and taken in so far.
        shed: Records read and only entered in the ledger so far.
        failing: Whether the last commit that was tried failed.
        commit_s: How long the last one took; None before the first.
    """

    own_level: Callable[[], Level] = lambda: Level.NORMAL
    name: str = field(default_factory=_name)
    memory: Callable[[], float | None] = memory_ratio
    now: Callable[[], datetime] = _utc_now
    accepted: int = 0
    shed: int = 0
    failing: bool = False
    commit_s: float | None = None

    def read(self, records: int, deferred: int) -> None:
        """Count what was read, and how much of it was only entered in the ledger."""
        self.accepted += records - deferred
        self.shed += deferred

    def report(self, level: Level, owed: Iterable[LedgerEntry]) -> str:
        """Return the report as it is written.

        Args:
            level: At which the sink works.
            owed: Open ledger entries of its partitions.
        """
        entries, now = list(owed), self.now()
        in_danger = [entry.oldest_ms for entry in entries if entry.raw_file is None]
        # What raw files hold does not leave with the log: of such alone, nothing grows old.
        oldest_ms = min(in_danger, default=int(now.timestamp() * 1000) if entries else None)
        return SinkReport(
            sink=self.name,
            at=now,
            level=level,
            own_level=self.own_level(),
            accepted=self.accepted,
            shed=self.shed,
            memory_ratio=self.memory(),
            failing=self.failing,
            commit_s=self.commit_s,
            deferred=owed_records(entries),
            oldest_deferred_at=None if oldest_ms is None else datetime.fromtimestamp(oldest_ms / 1000, UTC),
        ).dump()
