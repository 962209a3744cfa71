"""Removes the files of rows that left the table as too old, once no snapshot that shows them is kept any more.

Where Trino maintains the tables it does that; elsewhere nothing would free the disk. Snapshots from before such a
commit (`k2_sink.aging`) are forgotten when the commit itself is as old as snapshots are kept, and then the files that
it took out are in no snapshot that is listed. Called by the sink's spare-time work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation, Snapshot

from k2_core.tables import answering
from k2_core.types import Level, SnapshotId
from k2_sink.aging import AGED_KEY, READERS
from k2_sink.commit import TableWriter, read_head
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import Turns

_DAY_MS: Final = 86_400_000

_log = logging.getLogger(__name__)


class Clearing:
    """Looks for files to remove, again and again.

    Args:
        writer: Of the table.
        keep_days: How long snapshots are kept.
        metrics: Of the sink.
        turns: How often.
        utc_s: Seconds since 1970.
    """

    def __init__(
        self, writer: TableWriter, keep_days: int, metrics: SinkMetrics, turns: Turns, utc_s: Callable[[], float]
    ) -> None:
        self._writer = writer
        self._keep_days = keep_days
        self._metrics = metrics
        self._turns = turns
        self._utc_s = utc_s
        self._done: SnapshotId | None = None

    def step(self, level: Level) -> int:
        """Remove what is in no snapshot any more, if it is time to, and return how many files that were.

        Whoever dies in between leaves the files of the newest such commit to the next one that looks.

        Raises:
            StateError: The head forbids going on.
            RetryableError: Catalog or warehouse is away; the next time goes on.
        """
        if not self._turns.due(level):
            return 0
        table, _ = self._writer.load()
        over = due_commits(table, int(self._utc_s() * 1000) - self._keep_days * _DAY_MS)
        if not over or over[-1].snapshot_id == self._done:
            return 0
        older = [one for one in table.metadata.snapshots if _number(one) < _number(over[-1])]
        if blocked := holders(table, over[-1]):
            _log.warning("files of old rows: kept, as snapshots that show them are", extra={"snapshots": blocked})
            return 0
        with answering(table.location(), table.io.properties):
            paths = [*taken_out(table, over), *only_in(table, older, over[-1])]
        if older and not self._writer.forget(table, [SnapshotId(one.snapshot_id) for one in older]):
            self._turns.soon()
            return 0
        with answering(table.location(), table.io.properties), ThreadPoolExecutor(READERS) as threads:
            removed = sum(threads.map(partial(_delete, table), paths))
        self._done = SnapshotId(over[-1].snapshot_id)
        self._metrics.cleared.inc(removed)
        _log.info("files of old rows removed", extra={"files": removed, "snapshots_forgotten": len(older)})
        return removed


def due_commits(table: Table, before_ms: int) -> list[Snapshot]:
    """Return the commits that the head descends from, which took old rows out before a time, the oldest first.

    Args:
        table: As it was loaded.
        before_ms: UTC milliseconds.
    """
    ancestors = read_head(table).ancestors
    return sorted(
        (
            one
            for one in table.metadata.snapshots
            if one.snapshot_id in ancestors and one.timestamp_ms < before_ms and _aged(one)
        ),
        key=_number,
    )


def holders(table: Table, commit: Snapshot) -> list[str]:
    """Return what shows rows that a commit took out, though it is not older: tags, branches, what was rolled back."""
    listed = {one.snapshot_id: one for one in table.metadata.snapshots}
    named = [
        name
        for name, ref in table.metadata.refs.items()
        if name != MAIN_BRANCH and _number(listed[ref.snapshot_id]) < _number(commit)
    ]
    beside = [
        str(one.snapshot_id)
        for one in table.metadata.snapshots
        if _number(one) > _number(commit) and not _descends(one, commit, listed)
    ]
    return named + beside


def taken_out(table: Table, commits: Iterable[Snapshot]) -> list[str]:
    """Return the data files that some commits took out."""
    return [
        entry.data_file.file_path
        for commit in commits
        for manifest in commit.manifests(table.io)
        if manifest.added_snapshot_id == commit.snapshot_id and manifest.deleted_files_count
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        if entry.status is ManifestEntryStatus.DELETED
    ]


def only_in(table: Table, older: Sequence[Snapshot], commit: Snapshot) -> list[str]:
    """Return the manifests, and lists of manifests, to which only snapshots from before a commit lead.

    A commit that appends carries all manifests over, and there are thousands of those: so only what others found
    before them is looked at, and only what the commit itself carried over is kept.

    Args:
        table: As it was loaded.
        older: All that it lists from before the commit.
        commit: From which all others that it lists descend.
    """
    listed = {one.snapshot_id: one for one in older}
    found_by = [one for one in (*older, commit) if one.summary is None or one.summary.operation is not Operation.APPEND]
    ends = {listed[one.parent_snapshot_id].snapshot_id for one in found_by if one.parent_snapshot_id in listed}
    of_older = {manifest.manifest_path for end in ends for manifest in listed[end].manifests(table.io)}
    kept = {manifest.manifest_path for manifest in commit.manifests(table.io)}
    return [*sorted(of_older - kept), *(one.manifest_list for one in older)]


def _delete(table: Table, path: str) -> bool:
    try:
        table.io.delete(path)
    except FileNotFoundError:  # another sink was faster
        return False
    return True


def _aged(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and AGED_KEY in snapshot.summary.additional_properties


def _number(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0


def _descends(snapshot: Snapshot, ancestor: Snapshot, listed: dict[int, Snapshot]) -> bool:
    walk: Snapshot | None = snapshot
    while walk is not None and walk.snapshot_id != ancestor.snapshot_id:
        walk = listed.get(walk.parent_snapshot_id) if walk.parent_snapshot_id is not None else None
    return walk is not None
