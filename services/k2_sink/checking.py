"""Enrichment: looks through what was committed for what stands out, when there is nothing more urgent to do.

It goes by the trades table alone, and holds how far it has come in the table of findings, in the commit that brings
them: what a level put off, or a sink that died left, is looked at later, each row once. At SOFT and above it rests. Any
sink may do it, and if two do, one commit is refused and its findings with it. Called by the sink's loop; it changes the
table `quality` alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_core.errors import StateError
from k2_core.quality import CHECKED_KEY, COLUMNS, QUALITY, Checked, findings
from k2_core.records import TRADES
from k2_core.rewritten import is_rewritten
from k2_core.state import PIPELINE_KEY
from k2_core.storage import storage_fault
from k2_core.tables import answering, ensure_table, load_table
from k2_core.types import Level
from k2_sink.metrics import SinkMetrics

CATCH_UP_SHARE: Final = 1 / 12
"""Of the interval, while more is committed than was looked at: with the default one look in 5 s."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tables:
    """Where trades are, and where findings go.

    Args:
        catalog: Of both.
        namespace: Of both.
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

    def quality(self) -> Table:
        """Load the table of findings, made if it is missing.

        Raises:
            StateError: It belongs to another pipeline.
            RetryableError: Catalog or warehouse is away.
        """
        table = ensure_table(self.catalog, self.namespace, QUALITY, self.pipeline_uid)
        owner = table.properties.get(PIPELINE_KEY)
        if owner != self.pipeline_uid:
            raise StateError(
                f"table {QUALITY.name}: found it to be of pipeline {owner or 'nobody'}, expected {self.pipeline_uid}; "
                "use another spec.namespace, or drop the table"
            )
        return table


@dataclass(frozen=True, slots=True)
class Pace:
    """How often it looks, and at how much.

    Args:
        every_s: Each time is a commit, for a file of a few rows.
        rows: At once, in whole commits: a fraction of a second in which nothing is read from the log.
    """

    every_s: float
    rows: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Pending:
    """Files that nobody has looked at, in the order in which they were committed.

    Args:
        files: With the sequence number of the commit that brought each.
        more: Whether there are others beside these.
    """

    files: Sequence[tuple[int, DataFile]]
    more: bool


class Checking:
    """Looks at what was committed, again and again.

    Args:
        tables: Where.
        listed: The symbols that the pipeline names.
        metrics: Of the sink.
        pace: How often, and how much.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        tables: Tables,
        listed: Collection[str],
        metrics: SinkMetrics,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = tables
        self._listed = listed
        self._metrics = metrics
        self._pace = pace
        self._clock = clock
        self._due_s = clock() + pace.every_s

    def step(self, level: Level) -> int:
        """Look at some of what is pending, if it is time to, and return how many rows that were.

        Raises:
            StateError: The table of findings is not to be written to.
            RetryableError: Catalog or warehouse is away; it is tried again at the next time.
        """
        if level > Level.NORMAL or self._clock() < self._due_s:
            return 0
        self._due_s = self._clock() + self._pace.every_s
        trades = self._tables.trades()
        if trades is None or trades.current_snapshot() is None:
            return 0
        quality = self._tables.quality()
        checked = Checked.of(quality.properties, str(trades.metadata.table_uuid))
        with answering(trades.location(), trades.io.properties):
            found = pending(trades, checked.sequence_number, self._pace.rows)
        if not found.files:
            return 0
        numbers = (found.files[0][0], found.files[-1][0])
        seen, rows = self._look(trades, found.files, numbers)
        if not self._commit(quality, seen, Checked(checked.table, numbers[1])):
            return 0
        if found.more:
            self._due_s = self._clock() + self._pace.every_s * CATCH_UP_SHARE
        self._metrics.checked.inc(rows)
        for name, trades_found in zip(seen["finding"].to_pylist(), seen["trades"].to_pylist(), strict=True):
            self._metrics.findings.labels(name).inc(trades_found)
        return rows

    def _look(
        self, trades: Table, files: Sequence[tuple[int, DataFile]], numbers: tuple[int, int]
    ) -> tuple[pa.Table, int]:
        with self._metrics.stage("check"):
            rows = pa.concat_tables([_read(trades, file) for _, file in files])
            return findings(rows, self._listed, numbers), rows.num_rows

    def _commit(self, quality: Table, seen: pa.Table, checked: Checked) -> bool:
        """Write findings and how far they go in one commit on the head that was loaded; return whether that was it."""
        try:
            with answering(quality.location(), quality.io.properties), quality.transaction() as transaction:
                if seen.num_rows:
                    transaction.append(seen)
                transaction.set_properties({CHECKED_KEY: checked.dump()})
        except CommitFailedException:
            _log.info("checks: another sink was faster")
            return False
        _log.info("checked", extra={"to_sequence_number": checked.sequence_number, "findings": seen.num_rows})
        return True


def pending(trades: Table, checked: int, max_rows: int) -> Pending:
    """Return the files of the head that were committed after a sequence number, whole commits and the oldest first.

    Files that another engine put rows together into hold none that is new. They have the sequence number of the head
    that they were made from, and another one as files; `k2_query.maintenance` leaves alone what was not looked at.

    Args:
        trades: The table.
        checked: The sequence number.
        max_rows: More only if a single commit has more.
    """
    head = trades.current_snapshot()
    manifests = head.manifests(trades.io) if head is not None else []
    files = [
        (entry.sequence_number or 0, entry.data_file)
        for manifest in manifests
        if (manifest.sequence_number or 0) > checked  # of all that it lists, the greatest
        for entry in manifest.fetch_manifest_entry(trades.io, discard_deleted=True)
        if (entry.sequence_number or 0) > checked and not is_rewritten(entry)
    ]
    files.sort(key=lambda one: (one[0], one[1].file_path))
    taken, rows = 0, 0
    while taken < len(files) and (rows < max_rows or files[taken][0] == files[taken - 1][0]):
        rows += files[taken][1].record_count
        taken += 1
    return Pending(files[:taken], more=taken < len(files))


def _read(trades: Table, file: DataFile) -> pa.Table:
    try:
        with trades.io.new_input(file.file_path).open() as source:
            return pq.read_table(source, columns=list(COLUMNS)).replace_schema_metadata(None)
    except OSError as error:
        raise storage_fault(error, file.file_path, trades.io.properties) from error
