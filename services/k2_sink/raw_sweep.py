"""Removes raw files that no snapshot names: of a sink that died before its commit, or of snapshots that expired.

A raw file lives as long as a listed snapshot's ledger leads to it, as a data file does, so that going back to that
snapshot finds what it owed. Called by the sink's loop when there is time. It changes no table.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from pyiceberg.table import Table

from k2_core.errors import RawFileError, StateError
from k2_core.raw_files import LogPartition, RawFiles, created_ms
from k2_core.state import STATE_KEY, CommitState
from k2_core.types import Level, Offset
from k2_sink.commit import TableWriter
from k2_sink.landing import RENEW_AFTER_MS
from k2_sink.ledger import DRAINS_UP_TO
from k2_sink.metrics import SinkMetrics

LITTER_AFTER_MS: Final = 24 * RENEW_AFTER_MS
"""A younger file may be of a commit that is on its way, of this sink or of another one."""
SWEEP_EVERY_S: Final = 3_600.0

_log = logging.getLogger(__name__)


class RawSweep:
    """Looks at a table's raw files at the start, and then once an hour.

    Args:
        writer: Of the table.
        files: Its raw files.
        metrics: Of the sink: what is found and removed is shown there.
        clock: Monotonic seconds.
        utc_s: Seconds since 1970.
    """

    def __init__(
        self,
        writer: TableWriter,
        files: RawFiles,
        metrics: SinkMetrics,
        clock: Callable[[], float] = time.monotonic,
        utc_s: Callable[[], float] = time.time,
    ) -> None:
        self._writer = writer
        self._files = files
        self._metrics = metrics
        self._clock = clock
        self._utc_s = utc_s
        self._due_s = clock()

    def step(self, level: Level) -> list[str]:
        """Remove what is litter, if it is time to, and return it.

        Raises:
            StateError: The head forbids going on.
            RetryableError: Catalog or warehouse is away; the next look is an hour later.
        """
        if level > DRAINS_UP_TO or self._clock() < self._due_s:
            return []
        self._due_s = self._clock() + SWEEP_EVERY_S
        # First the files, then who names them: what is committed in between is old enough to be left alone, or named.
        before_ms = self._utc_s() * 1000 - LITTER_AFTER_MS
        sizes = self._files.sizes()
        kept = self._kept() if sizes else set()
        self._metrics.show_raw(None if kept is None else {name: sizes[name] for name in kept & sizes.keys()})
        if kept is None:
            return []
        old = [name for name in sizes if (created_ms(name) or 0) < before_ms]
        removed = [name for name in old if name not in kept and self._files.delete(name)]
        if removed:
            self._metrics.raw_removed.inc(len(removed))
            _log.info("raw files removed", extra={"files": len(removed)})
        return removed

    def _kept(self) -> set[str] | None:
        """Return what ledgers lead to, or None if that cannot be known."""
        table, _ = self._writer.load()
        try:
            return named(table, self._files)
        except (RawFileError, StateError) as error:  # policy: where it is not known what is named, nothing is litter
            _log.error("raw files: nothing was removed", extra={"error": str(error)})
            return None


def named(table: Table, files: RawFiles) -> set[str]:
    """Return the raw files that the ledgers of a table's listed snapshots lead to.

    Raises:
        StateError: A snapshot's state cannot be read.
        RawFileError: A file on the way cannot be read.
        StorageUnavailableError: The warehouse is away.
    """
    starts: dict[tuple[str, LogPartition], Offset] = {}
    for state in _states(table):
        for entry in state.open_ledger:
            if entry.raw_file is not None:
                key = (entry.raw_file, (entry.topic, entry.partition))
                starts[key] = min(entry.start, starts.get(key, entry.start))
    walked: dict[tuple[str, LogPartition], Offset] = {}
    for (newest, at), start in starts.items():
        name: str | None = newest
        while name is not None and ((name, at) not in walked or walked[name, at] > start):
            walked[name, at] = start
            section = files.section(name, at)
            name = section.previous if section.start > start else None
    return {name for name, _ in walked}


def _states(table: Table) -> Iterator[CommitState]:
    summaries = [snapshot.summary.additional_properties for snapshot in table.metadata.snapshots if snapshot.summary]
    for properties in (table.metadata.properties, *summaries):
        if (text := properties.get(STATE_KEY)) is not None:
            yield CommitState.parse(text)
