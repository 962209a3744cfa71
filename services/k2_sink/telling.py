"""What a sink says of itself each second, beside its read positions; see `k2_core.sink_report`.

Keeps the counts since the process began. Called by the sink's loop.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from k2_core.clock import utc_now
from k2_core.memory import memory_ratio
from k2_core.sink_report import SinkReport
from k2_core.state import LedgerEntry, owed_records
from k2_core.types import Level
from k2_sink.consumer import OFFSETS_EVERY_S
from k2_sink.size_watch import SizeWatch

LEAST_STAND_S: Final = 0.1
"""What passes between two reads in which nothing else is done is less."""


def _name() -> str:
    """Return a name by which a person finds the process; another one, of the same pod too, is another sink."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


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
        clock: Monotonic, seconds.
        commanded: The level of the newest command that the process knows, NORMAL before any.
    """

    own_level: Callable[[], Level] = lambda: Level.NORMAL
    name: str = field(default_factory=_name)
    memory: Callable[[], float | None] = memory_ratio
    now: Callable[[], datetime] = utc_now
    accepted: int = 0
    shed: int = 0
    failing: bool = False
    clock: Callable[[], float] = time.monotonic
    commanded: Callable[[], Level] = lambda: Level.NORMAL
    _read_at: float | None = None
    _commits_s: deque[float] = field(default_factory=lambda: deque(maxlen=2))
    _stands: list[tuple[float, float]] = field(default_factory=list)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While the log is asked; between two such times reading stands still."""
        now_s = self.clock()
        if self._read_at is not None and now_s - self._read_at >= LEAST_STAND_S:
            self._stands.append((now_s, now_s - self._read_at))
        try:
            yield
        finally:
            self._read_at = self.clock()

    def committed(self, seconds: float) -> None:
        """Note how long a commit took."""
        self._commits_s.append(seconds)

    def standing_s(self) -> float:
        """Return for how long reading stood still before what it is catching up with.

        That takes it no longer than it stood, if it can read at twice the rate of the load. It is told once at least.
        """
        now_s = self.clock()
        self._stands = [(at, lasted_s) for at, lasted_s in self._stands if now_s - at < max(lasted_s, OFFSETS_EVERY_S)]
        return max((lasted_s for _, lasted_s in self._stands), default=0.0)

    def read(self, records: int, deferred: int) -> None:
        """Count what was read, and how much of it was only entered in the ledger."""
        self.accepted += records - deferred
        self.shed += deferred

    def report(self, owed: Iterable[LedgerEntry], waiting: int = 0, size: SizeWatch | None = None) -> str:
        """Return the report as it is written.

        Args:
            owed: Open ledger entries of its partitions.
            waiting: Unread records of those of which everything waits.
            size: Of the logs.
        """
        entries, now = list(owed), self.now()
        in_danger = [entry.oldest_ms for entry in entries if entry.raw_file is None]
        # What raw files hold does not leave with the log: of such alone, nothing grows old.
        oldest_ms = min(in_danger, default=int(now.timestamp() * 1000) if entries else None)
        return SinkReport(
            sink=self.name,
            at=now,
            level=self.commanded(),
            own_level=self.own_level(),
            accepted=self.accepted,
            shed=self.shed,
            memory_ratio=self.memory(),
            failing=self.failing,
            commit_s=max(self._commits_s, default=None),
            standing_s=self.standing_s(),
            deferred=owed_records(entries),
            waiting=waiting,
            record_bytes=None if size is None else size.record_bytes,
            deferred_share=None if size is None else size.used_share(entries),
            oldest_deferred_at=None if oldest_ms is None else datetime.fromtimestamp(oldest_ms / 1000, UTC),
        ).dump()
