"""The protocol's Iceberg shell: reads heads, commits on exactly the head decided on, and looks again when unsure.

The only module that changes a table after it was created. Called by the sink's loop from one thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_core.errors import CatalogUnavailableError, StateError
from k2_core.records import RecordType
from k2_core.state import PIPELINE_KEY, SNAPSHOT_KEY, STATE_KEY, CommitState
from k2_core.tables import CATALOG_FAULTS, ensure_table, load_table
from k2_core.types import SnapshotId
from k2_sink.protocol import Claim, Head, Outcome, Superseded, current_state, decide, judge

BATCH_KEY: Final = "k2.batch"
ATTEMPTS: Final = 20
"""Attempts at one batch before the sink gives it up to its supervisor: with backoff about two minutes."""
_FIRST_BACKOFF_S: Final = 0.05
_MAX_BACKOFF_S: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who writes a table: one pipeline, from one Kafka cluster."""

    pipeline_uid: str
    cluster_id: str


@dataclass(frozen=True, slots=True)
class Committed:
    """The batch is in the table, in this snapshot or, if the answer was lost, in an ancestor of it."""

    snapshot_id: SnapshotId
    state: CommitState


class TableWriter:
    """One pipeline's table, for writing.

    Args:
        catalog: Where the table is.
        namespace: Of the pipeline.
        record_type: Of the table.
        owner: Who writes, and from where.
        sleep: How to wait between attempts.
    """

    def __init__(
        self,
        catalog: Catalog,
        namespace: str,
        record_type: RecordType,
        owner: Owner,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._record_type = record_type
        self._owner = owner
        self._sleep = sleep
        self.table = ensure_table(catalog, namespace, record_type, owner.pipeline_uid)
        self.failures: dict[str, int] = {}
        """Attempts that did not clearly succeed, by what they were."""

    def load(self) -> tuple[Table, CommitState]:
        """Load the head and return it with the state that it stands for.

        Raises:
            StateError: The head forbids going on; see `protocol.current_state`.
            CatalogUnavailableError: The catalog does not answer.
        """
        table = load_table(self._catalog, self._namespace, self._record_type)
        if table is None:
            raise StateError(f"table {self._namespace}.{self._record_type.name}: found none, expected the one in use")
        self.table = table
        return table, current_state(read_head(table), self._owner.pipeline_uid, self._owner.cluster_id)

    def commit(self, claim: Claim, files: Sequence[DataFile]) -> Committed | Superseded:
        """Commit a batch, or find that another writer was faster.

        Every attempt decides anew on the head that it loaded; after one that did not clearly succeed the next load
        says what became of it. The files are named by the commit or left to nobody: only a clear loss may remove them.

        Raises:
            StateError: The head forbids going on.
            CatalogUnavailableError: No attempt got through; the batch may or may not be in, and the same call may be
                made again with the same files.
        """
        tried = False
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(min(_FIRST_BACKOFF_S * 2.0**attempt, _MAX_BACKOFF_S))
            try:
                table, state = self.load()
                if tried and judge(state, claim) is Outcome.LANDED:
                    return self._landed(table, state)
                verdict = decide(state, claim)
                if isinstance(verdict, Superseded):
                    return verdict
                tried = True
                return self._attempt(table, verdict.state, files)
            except CommitFailedException:
                self._count("conflict")
            except (CommitStateUnknownException, CatalogUnavailableError, *CATALOG_FAULTS) as error:
                self._count("unknown")
                _log.warning("commit: no clear answer, looking again", extra={"error": repr(error), "attempt": attempt})
        raise CatalogUnavailableError(f"commit of {claim.batch_id}: found no clear answer in {ATTEMPTS} attempts")

    def _attempt(self, table: Table, state: CommitState, files: Sequence[DataFile]) -> Committed:
        text = state.dump()
        summary = {STATE_KEY: text, BATCH_KEY: state.batch_id}
        transaction = table.transaction()
        with transaction.update_snapshot(snapshot_properties=summary).fast_append() as append:
            for file in files:
                append.append_data_file(file)
        snapshot_id = append.snapshot_id
        sequence_number = table.metadata.next_sequence_number()
        transaction.set_properties({STATE_KEY: text, SNAPSHOT_KEY: f"{snapshot_id}@{sequence_number}"})
        self.table = transaction.commit_transaction()
        return Committed(SnapshotId(snapshot_id), state)

    def _landed(self, table: Table, state: CommitState) -> Committed:
        self._count("landed_unseen")
        head = table.current_snapshot()
        if head is None:
            raise AssertionError("a table with a commit state has a snapshot")
        return Committed(SnapshotId(head.snapshot_id), state)

    def _count(self, what: str) -> None:
        self.failures[what] = self.failures.get(what, 0) + 1


def read_head(table: Table) -> Head:
    """Return what the protocol needs to know of a loaded table.

    Raises:
        StateError: The table's properties hold something that is no state.
    """
    metadata = table.metadata
    parents = {snapshot.snapshot_id: snapshot.parent_snapshot_id for snapshot in metadata.snapshots}
    head = table.current_snapshot()
    ancestors: set[SnapshotId] = set()
    walk = head.snapshot_id if head else None
    while walk in parents:
        ancestors.add(SnapshotId(walk))
        walk = parents[walk]
    text = metadata.properties.get(STATE_KEY)
    return Head(
        snapshot_id=SnapshotId(head.snapshot_id) if head else None,
        sequence_number=head.sequence_number or 0 if head else 0,
        snapshots={SnapshotId(snapshot_id) for snapshot_id in parents},
        ancestors=ancestors,
        owner=metadata.properties.get(PIPELINE_KEY),
        state=CommitState.parse(text) if text is not None else None,
        state_snapshot=_parse_state_snapshot(metadata.properties.get(SNAPSHOT_KEY)),
    )


def _parse_state_snapshot(text: str | None) -> tuple[SnapshotId, int] | None:
    if text is None:
        return None
    snapshot_id, _, sequence_number = text.partition("@")
    try:
        return SnapshotId(int(snapshot_id)), int(sequence_number)
    except ValueError as error:
        raise StateError(f"{SNAPSHOT_KEY}: found {text!r}, expected SNAPSHOT@SEQUENCE_NUMBER") from error
