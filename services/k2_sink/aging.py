"""Rows leave the table once they are older than the pipeline keeps them: by whole days, and with an account of them.

A data file holds rows of one day, so that no file is rewritten. How many rows left, and where in the log they came
from, goes into the commit state in the same commit, so that the books balance at each snapshot. The files stay until
no snapshot shows them any more: `k2_sink.clearing`, or Trino. Called by the sink's spare-time work.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final

import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes, to_bytes
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table
from pyiceberg.types import DateType, IntegerType

from k2_core.state import CommitState
from k2_core.storage import storage_fault
from k2_core.tables import answering
from k2_core.types import Level, Partition, TopicId
from k2_sink.commit import TableWriter
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import Turns

AGED_KEY: Final = "k2.aged-before"
"""The snapshot summary key that names the first day (UTC, by event time) that such a commit kept."""
FILES_AT_ONCE: Final = 500
"""In one commit, so that it takes seconds even where each has to be opened; 6,000 an hour while there are more."""

READERS: Final = 8
"""Threads: object storage takes its time for each file."""

Origin = tuple[TopicId, Partition]

_EPOCH: Final = date(1970, 1, 1)
_PLACE: Final = ("topic_id", "kafka_partition")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Aging:
    """Looks for days that are over, again and again.

    Args:
        writer: Of the table.
        keep_days: Of event time, beside today.
        metrics: Of the sink.
        turns: How often.
        utc_s: Seconds since 1970.
        files: To take out in one commit.
    """

    writer: TableWriter
    keep_days: int
    metrics: SinkMetrics
    turns: Turns
    utc_s: Callable[[], float] = time.time
    files: int = FILES_AT_ONCE

    def step(self, level: Level) -> int:
        """Take rows that are too old out of the table, if it is time to, and return how many that were.

        Raises:
            StateError: The head forbids going on.
            RetryableError: Catalog or warehouse is away, or gave no clear answer; the next time finds out.
        """
        if not self.turns.due(level):
            return 0
        table, state = self.writer.load()
        before = datetime.fromtimestamp(self.utc_s(), tz=UTC).date() - timedelta(days=self.keep_days)
        with answering(table.location(), table.io.properties):
            old = files_before(table, before, self.files + 1)
        if not old:
            return 0
        taken = old[: self.files]
        left = count_rows(table, state, taken)
        account = {AGED_KEY: before.isoformat()}
        if not self.writer.let_go(table, taken, state.with_aged(left, f"aged-{uuid.uuid4().hex}"), account):
            self.turns.soon()
            return 0
        rows = sum(left.values())
        self.metrics.aged.inc(rows)
        _log.info("rows left the table", extra={"rows": rows, "files": len(taken), "kept_from": before.isoformat()})
        if len(old) > len(taken):
            self.turns.soon()
        return rows


def files_before(table: Table, before: date, most: int) -> list[DataFile]:
    """Return files of a table's head that hold days before this one alone, those of the oldest commits first.

    Args:
        table: As it was loaded.
        before: The first day that is not wanted.
        most: Of manifests that were not looked at the files are not needed, once this many are found.
    """
    head, day = table.current_snapshot(), (before - _EPOCH).days
    found: list[tuple[int, str, DataFile]] = []
    manifests = head.manifests(table.io) if head is not None else []
    for manifest in sorted(manifests, key=lambda one: one.min_sequence_number or 0):
        if len(found) >= most:
            break
        at = _day_field(table, manifest)
        if at is None or not _may_hold(manifest, at, day):
            continue
        found.extend(
            (entry.sequence_number or 0, entry.data_file.file_path, entry.data_file)
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            if (held := entry.data_file.partition[at]) is not None and held < day
        )
    return [file for _, _, file in sorted(found, key=lambda one: one[:2])]


def _day_field(table: Table, manifest: ManifestFile) -> int | None:
    """Return which of its partition's fields is the day; None where somebody partitioned the table without it."""
    names = [field.name for field in table.specs()[manifest.partition_spec_id].fields]
    return names.index("event_day") if "event_day" in names else None


def _may_hold(manifest: ManifestFile, at: int, day: int) -> bool:
    low = manifest.partitions[at].lower_bound if manifest.partitions else None
    first: Any = None if low is None else from_bytes(DateType(), low)  # days since 1970
    return first is None or bool(first < day)


def count_rows(table: Table, state: CommitState, files: Sequence[DataFile]) -> Counter[Origin]:
    """Return how many rows of some files came from where in the log.

    A file is opened only where its bounds, and the state, leave that open.

    Raises:
        StorageUnavailableError: A file cannot be read.
    """
    places = {
        (topic_id, partition)
        for topic in state.topics.values()
        for topic_id, accounts in topic.accounts.items()
        for partition in accounts
    }
    column = table.schema().find_field("kafka_partition").field_id
    counts: Counter[Origin] = Counter()
    unclear: list[DataFile] = []
    for file in files:
        bounds = (file.lower_bounds.get(column), file.upper_bounds.get(column))
        possible = [place for place in places if bounds == _bounds(place[1])]
        if len(possible) == 1:
            counts[possible[0]] += file.record_count
        else:
            unclear.append(file)
    with ThreadPoolExecutor(READERS) as readers:
        for read in readers.map(partial(_read_places, table), unclear):
            counts.update(read)
    return counts


def _bounds(partition: Partition) -> tuple[bytes, bytes]:
    value = to_bytes(IntegerType(), int(partition))  # as the library has written the file's bounds
    return value, value


def _read_places(table: Table, file: DataFile) -> Counter[Origin]:
    try:
        with table.io.new_input(file.file_path).open() as source:
            rows = pq.read_table(source, columns=list(_PLACE))
    except OSError as error:
        raise storage_fault(error, file.file_path, table.io.properties) from error
    grouped = rows.group_by(list(_PLACE)).aggregate([([], "count_all")])
    return Counter(
        {
            (TopicId(topic_id), Partition(partition)): number
            for topic_id, partition, number in zip(
                *(grouped.column(name).to_pylist() for name in (*_PLACE, "count_all")), strict=True
            )
        }
    )
