"""Enrichment: looks through what was committed for what stands out, when there is nothing more urgent to do.

It goes by the trades table alone, and holds how far it has come in the table of findings, in the commit that brings
them: what a level put off, or a sink that died left, is looked at later, each row once. At SOFT and above it rests. Any
sink may do it, and if two do, one commit is refused and its findings with it. Called by the sink's loop; it changes the
table `quality` alone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_core.quality import CHECKED_KEY, QUALITY, Checked, columns, findings
from k2_core.reference import References
from k2_core.rewritten import is_rewritten
from k2_core.storage import storage_fault
from k2_core.tables import answering
from k2_core.types import Level
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import Tables, Turns, write

LOOK_ROWS: Final = 1_000_000
"""At once, in whole commits: a fraction of a second in which nothing is read from the log."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pending:
    """Files that nobody has looked at, in the order in which they were committed.

    Args:
        files: With the sequence number of the commit that brought each.
        more: Whether there are others beside these.
    """

    files: Sequence[tuple[int, DataFile]]
    more: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """What a pipeline says of its symbols.

    Args:
        listed: Those that it names.
        known: The reference data of some of them.
    """

    listed: Collection[str]
    known: References


class Checking:
    """Looks at what was committed, again and again.

    Args:
        tables: Where.
        expected: What trades are held to.
        metrics: Of the sink.
        turns: How often: each time is a commit, for a file of a few rows.
        rows: To look at in one turn, more only if a single commit has more.
    """

    def __init__(
        self, tables: Tables, expected: Expected, metrics: SinkMetrics, turns: Turns, rows: int = LOOK_ROWS
    ) -> None:
        self._tables = tables
        self._expected = expected
        self._metrics = metrics
        self._turns = turns
        self._rows = rows

    def step(self, level: Level) -> int:
        """Look at some of what is pending, if it is time to, and return how many rows that were.

        Raises:
            StateError: The table of findings is not to be written to.
            RetryableError: Catalog or warehouse is away; it is tried again at the next time.
        """
        if not self._turns.due(level):
            return 0
        trades = self._tables.trades()
        if trades is None or trades.current_snapshot() is None:
            return 0
        quality = self._tables.projection(QUALITY)
        checked = Checked.of(quality.properties, str(trades.metadata.table_uuid))
        with answering(trades.location(), trades.io.properties):
            found = pending(trades, checked.sequence_number, self._rows)
        if not found.files:
            return 0
        numbers = (found.files[0][0], found.files[-1][0])
        seen, rows = self._look(trades, found.files, numbers)
        if not write(quality, seen, {CHECKED_KEY: Checked(checked.table, numbers[1]).dump()}):
            return 0
        _log.info("checked", extra={"to_sequence_number": numbers[1], "findings": seen.num_rows})
        if found.more:
            self._turns.soon()
        self._metrics.checked.inc(rows)
        for name, trades_found in zip(seen["finding"].to_pylist(), seen["trades"].to_pylist(), strict=True):
            self._metrics.findings.labels(name).inc(trades_found)
        return rows

    def _look(
        self, trades: Table, files: Sequence[tuple[int, DataFile]], numbers: tuple[int, int]
    ) -> tuple[pa.Table, int]:
        with self._metrics.stage("check"):
            listed, known = self._expected.listed, self._expected.known
            wanted = columns(known)
            rows = pa.concat_tables([_read(trades, file, wanted) for _, file in files])
            return findings(rows, listed, known, numbers), rows.num_rows


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


def _read(trades: Table, file: DataFile, wanted: list[str]) -> pa.Table:
    try:
        with trades.io.new_input(file.file_path).open() as source:
            return pq.read_table(source, columns=wanted).replace_schema_metadata(None)
    except OSError as error:
        raise storage_fault(error, file.file_path, trades.io.properties) from error
