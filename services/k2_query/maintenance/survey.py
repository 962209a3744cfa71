"""What a table's metadata says about its files: by day, and all that lies below its location.

Called by `maintenance.upkeep` with a table that was just loaded. It reads manifests and lists files; it opens no data.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pyiceberg.manifest import DataFile, ManifestEntry
from pyiceberg.table import Table

from k2_core.listing import listed
from k2_core.rewritten import is_rewritten
from k2_core.tables import answering
from k2_query.maintenance.statements import SMALL_BYTES, Part

_EPOCH: Final = dt.date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """Files and snapshots, before or after a statement.

    Args:
        files: Of the day's data in the head for `optimize`, else all that lie below the table's location.
        nbytes: Of these files.
        snapshots: That the table lists.
    """

    files: int
    nbytes: int
    snapshots: int


def survey(table: Table) -> list[Part]:
    """Return what the head holds of each day, the earliest first; one part for a table without days.

    Raises:
        StorageUnavailableError: A manifest cannot be read.
    """
    days: dict[dt.date | None, list[ManifestEntry]] = defaultdict(list)
    with answering(table.location(), table.io.properties):
        for entry in _entries(table):
            days[_day(entry.data_file)].append(entry)
    return [_part(day, entries) for day, entries in sorted(days.items(), key=lambda one: str(one[0]))]


def stored(table: Table) -> Figures:
    """Return all files that lie below the table's location.

    Raises:
        StorageUnavailableError: The warehouse is away.
    """
    found = listed(table.io, table.location(), below=True)
    return Figures(len(found), sum(one.size for one in found), len(table.metadata.snapshots))


def of_day(table: Table, day: dt.date | None) -> Figures:
    """Return the data files that the head has of a day.

    Raises:
        StorageUnavailableError: A manifest cannot be read.
    """
    part = next((part for part in survey(table) if part.day == day), Part(day, 0, 0, 0, 0))
    return Figures(part.files, part.nbytes, len(table.metadata.snapshots))


def _entries(table: Table) -> Iterator[ManifestEntry]:
    head = table.current_snapshot()
    for manifest in head.manifests(table.io) if head is not None else ():
        yield from manifest.fetch_manifest_entry(table.io, discard_deleted=True)


def _day(file: DataFile) -> dt.date | None:
    """Return the day of a partition, which is its first field: days since 1970 (`k2_core.tables.partition_spec`)."""
    return _EPOCH + dt.timedelta(days=file.partition[0]) if len(file.partition) else None


def _part(day: dt.date | None, entries: list[ManifestEntry]) -> Part:
    small: dict[str, int] = defaultdict(int)
    for entry in entries:
        small[repr(entry.data_file.partition)] += entry.data_file.file_size_in_bytes < SMALL_BYTES
    return Part(
        day,
        len(entries),
        sum(entry.data_file.file_size_in_bytes for entry in entries),
        sum(max(0, count - 1) for count in small.values()),
        max((entry.sequence_number or 0 for entry in entries if not is_rewritten(entry)), default=0),
    )
