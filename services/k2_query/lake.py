"""The table's snapshots: the newest, followed by a thread, and any older one on request.

A snapshot is immutable, so everything derived from one is: its commit state and its index of files. Manifests are read
once. When the catalog is away, the newest snapshot seen stays pinned and says so. Reads only; nothing is ever written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NoSuchNamespaceError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from sqlalchemy import select
from sqlalchemy.orm import Session

from k2_core.errors import CatalogUnavailableError, K2Error, QueryError, StateError
from k2_core.records import RecordType
from k2_core.state import STATE_KEY, CommitState
from k2_core.tables import CATALOG_FAULTS, load_table
from k2_core.types import SnapshotId
from k2_query.file_index import EMPTY_INDEX, FileIndex, FileStats, read_stats

REFRESH_S: Final = 0.2
"""How old the pinned snapshot may be. It decides how much comes from the tail, not what an answer holds."""
OLDER_SNAPSHOTS_KEPT: Final = 16
MANIFESTS_KEPT: Final = 10_000
"""In memory before a look at which are still needed: a day of commits, some 10 MB."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LakeSnapshot:
    """One snapshot of the table, or the table before its first.

    Args:
        id: None before the first snapshot.
        committed_at: When it was made, UTC.
        state: Its own commit state, None where it has none.
        problem: Why its state cannot be used, None if it can.
        index: Its data files.
    """

    id: SnapshotId | None
    committed_at: datetime | None
    state: CommitState | None
    problem: str | None
    index: FileIndex


NO_TABLE: Final = LakeSnapshot(None, None, None, None, EMPTY_INDEX)


@dataclass(frozen=True, slots=True)
class LakeHead:
    """What the last refresh saw: the table, None if there is none yet, and its newest snapshot."""

    table: Table | None
    snapshot: LakeSnapshot


class Lake:
    """Follows one table.

    Args:
        open_catalog: Makes the catalog's client; called again until it answers.
        namespace: The table's.
        record_type: The table's.
        published: Called from the refresher with each new head.
    """

    def __init__(
        self,
        open_catalog: Callable[[], Catalog],
        namespace: str,
        record_type: RecordType,
        published: Callable[[LakeHead], None] = lambda _: None,
    ) -> None:
        self._open_catalog = open_catalog
        self._namespace = namespace
        self._record_type = record_type
        self._published = published
        self._catalog: Catalog | None = None
        self._pointer: str | None = None
        self._head: LakeHead | None = None
        self._checked_at = float("-inf")
        self._problem: str | None = "the catalog has not been asked yet"
        self.manifests: dict[str, tuple[FileStats, ...]] = {}
        self.keep_manifests = MANIFESTS_KEPT
        self._older: OrderedDict[int, LakeSnapshot] = OrderedDict()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._seen = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lake", daemon=True)

    def start(self) -> None:
        """Start the refresher."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the refresher."""
        self._stopping.set()
        self._seen.set()
        self._thread.join()
        if isinstance(self._catalog, SqlCatalog):
            self._catalog.engine.dispose()

    @property
    def running(self) -> bool:
        """Whether the refresher runs; one that ended unasked is a fault that only a restart heals."""
        return self._thread.is_alive()

    @property
    def problem(self) -> str | None:
        """What is wrong with the catalog, or None."""
        return self._problem if self.running else "the lake's thread is not running"

    @property
    def checked_s_ago(self) -> float:
        """Seconds since the catalog last answered."""
        return time.monotonic() - self._checked_at

    def peek(self) -> LakeHead | None:
        """Return the newest head, or None if the catalog has never answered."""
        return self._head

    def head(self, timeout_s: float) -> LakeHead:
        """Return the newest head, waiting for the first one.

        Raises:
            CatalogUnavailableError: The catalog has not answered since the service started.
        """
        self._seen.wait(timeout_s)
        head = self._head
        if head is None:
            raise CatalogUnavailableError(f"no snapshot: {self._problem}")
        return head

    def at(self, snapshot_id: int, head: LakeHead) -> LakeSnapshot:
        """Return a snapshot by its id.

        Raises:
            QueryError: The table has no such snapshot, or no longer.
        """
        found = head.table.metadata.snapshot_by_id(snapshot_id) if head.table else None
        if head.table is None or found is None:
            raise QueryError("snapshot_id", f"found {snapshot_id}, expected one that GET /v1/snapshots lists")
        return self._describe(head.table, found)

    def as_of(self, moment: datetime, head: LakeHead) -> LakeSnapshot:
        """Return the snapshot that was the newest at a moment.

        Raises:
            QueryError: There was none yet.
        """
        found = head.table.snapshot_as_of_timestamp(int(moment.timestamp() * 1000)) if head.table else None
        if head.table is None or found is None:
            raise QueryError("as_of", f"found {moment.isoformat()}, expected a time after the table's first snapshot")
        return self._describe(head.table, found)

    def tables(self) -> list[tuple[str, Table, FileIndex]]:
        """Return every table of the namespace with its newest files.

        Raises:
            CatalogUnavailableError: The catalog does not answer.
        """
        catalog = self._catalog
        if catalog is None:
            raise CatalogUnavailableError(f"no catalog: {self._problem}")
        try:
            tables = [catalog.load_table(name) for name in sorted(catalog.list_tables(self._namespace))]
        except NoSuchNamespaceError:
            return []
        except CATALOG_FAULTS as error:
            raise CatalogUnavailableError(f"catalog: found {type(error).__name__}, expected an answer") from error
        return [(table.name()[-1], table, self._newest_files(table)) for table in tables]

    def _newest_files(self, table: Table) -> FileIndex:
        snapshot = table.current_snapshot()
        return self._index(table, snapshot) if snapshot else EMPTY_INDEX

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._refresh()
            self._stopping.wait(REFRESH_S)

    def _refresh(self) -> None:
        try:
            changed = self._look()
        except (K2Error, *CATALOG_FAULTS, OSError) as error:  # policy: the last head stays pinned until one is seen
            if self._problem != str(error):
                _log.warning("the catalog does not answer", extra={"problem": str(error)})
            self._problem = str(error)
            return
        self._problem = None
        self._checked_at = time.monotonic()
        if changed is not None:
            self._head = changed
            self._forget(changed)
            self._published(changed)
        self._seen.set()

    def _look(self) -> LakeHead | None:
        """Return the head if it is another than before."""
        if self._catalog is None:
            self._catalog = self._open_catalog()
        pointer = self._metadata_pointer(self._catalog)
        if self._head is not None and pointer is not None and pointer == self._pointer:
            return None
        table = load_table(self._catalog, self._namespace, self._record_type)
        if table is None:
            return LakeHead(None, NO_TABLE) if self._head is None or self._head.table is not None else None
        newest = table.current_snapshot()
        before = self._head.snapshot.id if self._head and self._head.table else None
        if self._head is not None and newest is not None and newest.snapshot_id == before:
            self._pointer = table.metadata_location
            return LakeHead(table, self._head.snapshot)
        head = LakeHead(table, self._describe(table, newest) if newest else NO_TABLE)
        self._pointer = table.metadata_location
        return head

    def _forget(self, head: LakeHead) -> None:
        """Drop manifests that were rewritten away, once there are many; older snapshots read theirs again."""
        newest = head.table.current_snapshot() if head.table else None
        if head.table is None or newest is None or len(self.manifests) <= self.keep_manifests:
            return
        named = {manifest.manifest_path for manifest in newest.manifests(head.table.io)}
        self.manifests = {path: files for path, files in self.manifests.items() if path in named}
        self.keep_manifests = max(self.keep_manifests, 2 * len(named))

    def _metadata_pointer(self, catalog: Catalog) -> str | None:
        """Return where the table's metadata is, without reading it; None where a catalog cannot say that cheaply."""
        if not isinstance(catalog, SqlCatalog):
            return None
        query = select(IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == catalog.name,
            IcebergTables.table_namespace == self._namespace,
            IcebergTables.table_name == self._record_type.name,
        )
        with Session(catalog.engine) as session:
            return session.scalar(query)

    def _describe(self, table: Table, snapshot: Snapshot) -> LakeSnapshot:
        head = self._head
        if head is not None and head.snapshot.id == snapshot.snapshot_id:
            return head.snapshot
        with self._lock:
            if snapshot.snapshot_id in self._older:
                self._older.move_to_end(snapshot.snapshot_id)
                return self._older[snapshot.snapshot_id]
        state, problem = snapshot_state(table, snapshot)
        described = LakeSnapshot(
            id=SnapshotId(snapshot.snapshot_id),
            committed_at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, tz=UTC),
            state=state,
            problem=problem,
            index=self._index(table, snapshot),
        )
        with self._lock:
            self._older[snapshot.snapshot_id] = described
            while len(self._older) > OLDER_SNAPSHOTS_KEPT:
                self._older.popitem(last=False)
        return described

    def _index(self, table: Table, snapshot: Snapshot) -> FileIndex:
        schema, specs = table.schema(), table.specs()
        files: list[FileStats] = []
        for manifest in snapshot.manifests(table.io):
            known = self.manifests.get(manifest.manifest_path)
            if known is None:
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                spec = specs[manifest.partition_spec_id]
                known = tuple(read_stats(entry.data_file, schema, spec) for entry in entries)
                self.manifests[manifest.manifest_path] = known
            files.extend(known)
        return FileIndex(tuple(files))


def snapshot_state(table: Table, snapshot: Snapshot) -> tuple[CommitState | None, str | None]:
    """Return a snapshot's own commit state and why it cannot be used.

    It is in the snapshot's summary. Another engine's maintenance (Trino's `optimize`) writes none; for the newest
    snapshot the table property then still holds.
    """
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    text = summary.get(STATE_KEY)
    newest = table.current_snapshot()
    if text is None and newest is not None and newest.snapshot_id == snapshot.snapshot_id:
        text = table.properties.get(STATE_KEY)
    if text is None:
        return None, f"snapshot {snapshot.snapshot_id}: found no {STATE_KEY}, expected the commit state"
    try:
        return CommitState.parse(text), None
    except StateError as error:
        return None, str(error)
