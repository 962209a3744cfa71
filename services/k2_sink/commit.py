"""The protocol's Iceberg shell: reads heads, commits on exactly the head decided on, and looks again when unsure.

The only module that changes a table after it was created. Called by the sink's loop from one thread, and by the
commands of `k2` with which a person recovers a table.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ValidationException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID, RemoveSnapshotsUpdate
from pyiceberg.table.update.snapshot import ManageSnapshots

from k2_core.errors import CatalogUnavailableError, RetryableError, StateError
from k2_core.records import RecordType
from k2_core.state import PIPELINE_KEY, SNAPSHOT_KEY, STATE_KEY, CommitState
from k2_core.tables import CATALOG_FAULTS, TABLE_PROPERTIES, answering, describe_fault, ensure_table, load_table
from k2_core.types import SnapshotId
from k2_sink.protocol import (
    Claim,
    Fenced,
    Head,
    Outcome,
    Proceed,
    Repayment,
    Superseded,
    current_state,
    decide,
    judge,
)

BATCH_KEY: Final = "k2.batch"
RETRIES_KEY: Final = "commit.retry.num-retries"
ATTEMPTS: Final = 20
"""Attempts at one batch before the sink gives it up to its supervisor: with backoff about two minutes."""
_FIRST_BACKOFF_S: Final = 0.05
_MAX_BACKOFF_S: Final = 10.0

_SHOWN: Final = 300
"""Characters of an error that may name every file."""

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
        self.catalog = catalog
        self._namespace = namespace
        self._record_type = record_type
        self.owner = owner
        self._sleep = sleep
        self.table = ensure_table(catalog, namespace, record_type, owner.pipeline_uid)
        self._unsure: set[str] = set()
        self.state = CommitState(owner.cluster_id)
        """Of the head that was loaded last."""
        self.failures: dict[str, int] = {}
        """Attempts that did not clearly succeed, by what they were."""

    def load(self) -> tuple[Table, CommitState]:
        """Load the head and return it with the state that it stands for.

        Raises:
            StateError: The head forbids going on; see `protocol.current_state`.
            CatalogUnavailableError: The catalog does not answer.
        """
        table = load_table(self.catalog, self._namespace, self._record_type)
        if table is None:
            raise StateError(f"table {self._namespace}.{self._record_type.name}: found none, expected the one in use")
        self.table = table
        self.state = current_state(read_head(table), self.owner.pipeline_uid, self.owner.cluster_id)
        return table, self.state

    def may_hold(self, batch_id: str) -> bool:
        """Return whether an attempt at this batch may have landed unseen: then its files are not to be removed."""
        return batch_id in self._unsure

    def commit(self, claim: Claim | Repayment, files: Sequence[DataFile]) -> Committed | Superseded | Fenced:
        """Commit a batch or a drain, or find that another writer was faster.

        Every attempt decides anew on the head that it loaded; after one that did not clearly succeed the next load
        says what became of it, in this call or in a later one for the same batch. Only a clear loss may remove the
        files: one that landed unseen, and that another writer has gone on from, is in the table; see `may_hold`.

        Raises:
            StateError: The head forbids going on.
            CatalogUnavailableError: No attempt got through; the batch may or may not be in, and the same call may be
                made again with the same files.
        """
        for attempt in range(ATTEMPTS):
            was_unsure = self.may_hold(claim.batch_id)
            if attempt:
                self._sleep(min(_FIRST_BACKOFF_S * 2.0**attempt, _MAX_BACKOFF_S))
            try:
                table, state = self.load()
                if was_unsure and judge(state, claim) is Outcome.LANDED:
                    return self._landed(table, state)
                verdict = decide(state, claim)
                if not isinstance(verdict, Proceed):
                    return verdict
                self._unsure.add(claim.batch_id)
                return self._attempt(table, verdict.state, files)
            except CommitFailedException:
                if not was_unsure:  # this attempt did not land; one before it may be what it lost against
                    self._unsure.discard(claim.batch_id)
                self._count("conflict")
            except (CommitStateUnknownException, RetryableError, *CATALOG_FAULTS, OSError) as error:
                self._count("unknown")
                said = str(error) if isinstance(error, RetryableError) else describe_fault(error)
                _log.warning("commit: no clear answer, looking again", extra={"error": said, "attempt": attempt})
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
        self._unsure.discard(state.batch_id)
        return Committed(SnapshotId(snapshot_id), state)

    def let_go(self, table: Table, files: Sequence[DataFile], state: CommitState, account: Mapping[str, str]) -> bool:
        """Take files out of the table, on exactly the head that was loaded; return whether that was it.

        Nothing is tried again, and no file is touched: where there was no clear answer the next load says whether the
        table still has them. The library looks for them with several threads and one evaluator, which keeps the
        manifest that it is at in itself: it now and then misses one that is there, and refuses then.

        Args:
            table: As it was loaded.
            files: Of its head.
            state: That head's, with the account of their rows.
            account: What the snapshot's summary is to say.

        Raises:
            CatalogUnavailableError: There was no clear answer.
            StorageUnavailableError: The warehouse is away.
        """
        text = state.dump()
        summary = {STATE_KEY: text, BATCH_KEY: state.batch_id, **account}
        transaction = table.transaction()
        try:
            with answering(table.location(), table.io.properties):
                with transaction.update_snapshot(snapshot_properties=summary).overwrite() as overwrite:
                    for file in files:
                        overwrite.delete_data_file(file)
                written_in = f"{overwrite.snapshot_id}@{table.metadata.next_sequence_number()}"
                transaction.set_properties({STATE_KEY: text, SNAPSHOT_KEY: written_in})
                self.table = transaction.commit_transaction()
        except (CommitFailedException, ValidationException) as error:
            _log.info("files stay for now", extra={"files": len(files), "error": str(error)[:_SHOWN]})
            self._count("conflict")
            return False
        return True

    def forget(self, table: Table, snapshots: Sequence[SnapshotId]) -> bool:
        """Have a table list snapshots no more; return whether its head was still the one that was loaded.

        The library would not ask for that: after a rollback in between the head may show what only they showed before.

        Raises:
            CatalogUnavailableError: There was no clear answer.
        """
        head = table.current_snapshot()
        same = AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=head.snapshot_id if head else None)
        updates = (RemoveSnapshotsUpdate(snapshot_ids=list(snapshots)),)
        try:
            with answering(table.location(), table.io.properties):
                table.catalog.commit_table(table, (AssertTableUUID(uuid=table.metadata.table_uuid), same), updates)
        except CommitFailedException:
            self._count("conflict")
            return False
        return True

    def _landed(self, table: Table, state: CommitState) -> Committed:
        self._count("landed_unseen")
        head = table.current_snapshot()
        if head is None:
            raise AssertionError("a table with a commit state has a snapshot")
        return Committed(SnapshotId(head.snapshot_id), state)

    def _count(self, what: str) -> None:
        self.failures[what] = self.failures.get(what, 0) + 1


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a person decided about a table: its state, and why.

    Args:
        state: To be written; its epoch is above every one that the table has seen.
        owner: The pipeline that the table belongs to from now on.
        account: Who did what and why, for the snapshot's summary.
        contents_of: The snapshot whose rows the table has from now on, or None to leave them as they are.
    """

    state: CommitState
    owner: str
    account: Mapping[str, str]
    contents_of: SnapshotId | None = None


def recover(table: Table, recovery: Recovery) -> SnapshotId:
    """Write a recovery in one commit on exactly the head that was loaded, and return the snapshot that it made.

    Raises:
        CatalogUnavailableError: Another writer was faster, or the catalog gave no clear answer: look, and do it again.
    """
    text = recovery.state.dump()
    try:
        if table.metadata.properties.get(RETRIES_KEY) != TABLE_PROPERTIES[RETRIES_KEY]:
            # Before, as the library decides by the properties that it loaded: with retries it would rebase us.
            with table.transaction() as first:
                first.set_properties(dict(TABLE_PROPERTIES))
        transaction = table.transaction()
        if recovery.contents_of is not None:
            ManageSnapshots(transaction).set_current_snapshot(recovery.contents_of).commit()
        summary = {STATE_KEY: text, BATCH_KEY: recovery.state.batch_id, **recovery.account}
        with transaction.update_snapshot(snapshot_properties=summary).fast_append() as append:
            pass
        written_in = f"{append.snapshot_id}@{table.metadata.next_sequence_number()}"
        transaction.set_properties({PIPELINE_KEY: recovery.owner, STATE_KEY: text, SNAPSHOT_KEY: written_in})
        transaction.commit_transaction()
    except CommitFailedException as error:
        raise CatalogUnavailableError("commit: found a newer head, expected the one that was shown") from error
    except (CommitStateUnknownException, *CATALOG_FAULTS) as error:
        raise CatalogUnavailableError(f"commit: found {type(error).__name__}, expected a clear answer") from error
    return SnapshotId(append.snapshot_id)


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
        raise StateError(
            f"{SNAPSHOT_KEY}: found {text!r}, expected SNAPSHOT@SEQUENCE_NUMBER; to have it rebuilt: `k2 adopt`"
        ) from error
