"""Tables that are derived from others: whose they are, when they are written to, and how far they go.

How far one goes is a property of it, changed in the commit that brings its rows and on exactly the head that was
loaded: each row is written once, whatever dies when, and of several sinks that work on the same one wins. Called by
the sink's spare-time work alone; it never changes the trades table.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID, SetPropertiesUpdate

from k2_core.errors import StateError
from k2_core.records import TRADES, TableForm
from k2_core.state import PIPELINE_KEY
from k2_core.tables import answering, ensure_table, load_table
from k2_core.types import Level

CATCH_UP_SHARE: Final = 1 / 12
"""Of the interval, while there is more than one turn takes: with the default one turn in 5 s."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tables:
    """Where trades are, and what is derived from them.

    Args:
        catalog: Of all.
        namespace: Of all.
        pipeline_uid: Whose they are.
    """

    catalog: Catalog
    namespace: str
    pipeline_uid: str

    def trades(self) -> Table | None:
        """Load the trades table, or return None if there is none.

        Raises:
            RetryableError: Catalog or warehouse is away.
        """
        return load_table(self.catalog, self.namespace, TRADES)

    def projection(self, form: TableForm) -> Table:
        """Load a table that is derived, made if it is missing.

        Raises:
            StateError: It belongs to another pipeline.
            RetryableError: Catalog or warehouse is away.
        """
        table = ensure_table(self.catalog, self.namespace, form, self.pipeline_uid)
        owner = table.properties.get(PIPELINE_KEY)
        if owner != self.pipeline_uid:
            raise StateError(
                f"table {form.name}: found it to be of pipeline {owner or 'nobody'}, expected {self.pipeline_uid}; "
                "use another spec.namespace, or drop the table"
            )
        return table


class Turns:
    """When something is to be done that has time: at level 0, once an interval, sooner while there is more.

    Args:
        every_s: The interval.
        clock: Monotonic seconds.
    """

    def __init__(self, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self.clock = clock
        self._due_s = clock() + every_s

    def due(self, level: Level) -> bool:
        """Return whether it is time, at this level; if so, the next time is an interval from now."""
        if level > Level.NORMAL or self.clock() < self._due_s:
            return False
        self._due_s = self.clock() + self._every_s
        return True

    def soon(self) -> None:
        """Have the next turn sooner: there is more to do."""
        self._due_s = self.clock() + self._every_s * CATCH_UP_SHARE


def write(table: Table, rows: pa.Table, reached: Mapping[str, str]) -> bool:
    """Write rows and how far they go in one commit, on the head that was loaded; return whether that was it.

    Where there are no rows no snapshot is made, but that the head is the one that was loaded is asked for all the same:
    else a late sink would put the property back behind rows that another has written.

    Args:
        table: As it was loaded.
        rows: In its form.
        reached: The property.

    Raises:
        RetryableError: Catalog or warehouse is away, or gave no clear answer: the next load says what became of it.
    """
    try:
        with answering(table.location(), table.io.properties):
            if rows.num_rows:
                with table.transaction() as transaction:
                    transaction.append(rows)
                    transaction.set_properties(dict(reached))
            else:
                head = table.current_snapshot()
                same = AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=head.snapshot_id if head else None)
                updates = (SetPropertiesUpdate(updates=dict(reached)),)
                table.catalog.commit_table(table, (AssertTableUUID(uuid=table.metadata.table_uuid), same), updates)
    except CommitFailedException:
        _log.info("another sink was faster", extra={"table": ".".join(table.name())})
        return False
    return True
