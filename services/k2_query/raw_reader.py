"""Reads open ledger ranges from raw files for one query, where the log no longer has them.

The log is asked first: what it still has costs no way back through files. What an entry owes never changes while its
range is the same, so what was read is kept, within a budget of bytes, for the next query that needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pyiceberg.table import Table

from k2_core.codec import BatchDecoder
from k2_core.errors import RawFileError, RetryableError
from k2_core.raw_files import RawFiles
from k2_core.records import RecordType
from k2_core.schemas import SchemaSource
from k2_core.state import LedgerEntry
from k2_core.types import TopicId, TopicName
from k2_query.boundary import LogPartition, LogRange
from k2_query.budget import Budget
from k2_query.log_reader import MAX_READ_S, MAX_RECORDS
from k2_query.segments import TailStore, TailView
from k2_query.view_cache import ViewCache

_log = logging.getLogger(__name__)

_Key = tuple[TopicId, LedgerEntry]


@dataclass(frozen=True, slots=True)
class RawRead:
    """What a query got.

    Args:
        views: Of the ranges that could be read, each as a view that covers it.
        problems: What is wrong with the others, for people.
    """

    views: dict[LogRange, TailView] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class RawReader:
    """Reads what entries owe. Thread-safe.

    Args:
        record_type: What the files hold.
        schemas: Where writer schemas come from.
    """

    def __init__(self, record_type: RecordType, schemas: SchemaSource) -> None:
        self._record_type = record_type
        self._schemas = schemas
        self._cache: ViewCache[_Key] = ViewCache()

    def read(
        self, entries: Sequence[LedgerEntry], table: Table, topic_ids: Mapping[TopicName, TopicId], budget: Budget
    ) -> RawRead:
        """Return what could be read of entries that name a raw file, as much as one query may read.

        Raises:
            RetryableError: The budget is over.
        """
        found, records = RawRead(), 0
        files = RawFiles(table.io, table.location())
        reading = Budget(min(MAX_READ_S, budget.remaining_s / 2))
        for entry in entries:
            budget.check()
            key = (topic_ids[entry.topic], entry)
            view = self._cache.get(key)
            if view is None:
                records += entry.records
                if records > MAX_RECORDS:
                    found.problems.append(f"{entry.records:,} deferred records are more than one query reads")
                    continue
                view = self._read_one(entry, files, topic_ids, reading, found.problems)
            if view is not None:
                self._cache.keep(key, view)
                found.views[range_of(entry)] = view
        return found

    def _read_one(
        self,
        entry: LedgerEntry,
        files: RawFiles,
        topic_ids: Mapping[TopicName, TopicId],
        budget: Budget,
        problems: list[str],
    ) -> TailView | None:
        store = TailStore(self._record_type, max_bytes=2**62)
        store.restart({LogPartition(entry.topic, entry.partition): entry.start}, topic_ids)
        decoder, taken = BatchDecoder(self._record_type, self._schemas.by_id), 0
        try:
            links = []
            for link in files.links(entry, entry.start):
                budget.check()
                links.append(link)
            for link in reversed(links):
                budget.check()
                rows = files.owed(entry, link, entry.start)
                decoded = decoder.decode(rows.column("value").to_pylist())
                offsets = rows.column("offset").to_numpy()[decoded.indexes]
                store.append(decoded.rows, np.zeros(offsets.size, dtype=np.int64), offsets, {0: link.section.end})
                taken += rows.num_rows
            files.require_all(entry, taken)
        except (RawFileError, RetryableError) as error:
            _log.warning("raw files were not read", extra={"range": str(range_of(entry)), "problem": str(error)})
            problems.append(str(error))
            return None
        return store.view()


def range_of(entry: LedgerEntry) -> LogRange:
    """Return the range of an entry."""
    return LogRange(LogPartition(entry.topic, entry.partition), entry.start, entry.end)
