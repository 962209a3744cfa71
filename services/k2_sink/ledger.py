"""The ledger's arithmetic: what deferring adds to it, what a drain takes off it, and what a drain reads next.

Called by the protocol, which decides when a ledger may change, and by the drain. An entry is sound if every record in
its range that has one of its keys is owed: nothing here may make one that names a key whose record is in the table.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from k2_core.state import LedgerEntry
from k2_core.types import Level, Offset, Partition, TopicName

DRAINS_UP_TO: Final = Level.SOFT
"""From GRACEFUL on there is no time for what was put off, unless it would leave the log."""

_NOWHERE: Final[Mapping[tuple[TopicName, Partition], int]] = {}


@dataclass(frozen=True, slots=True)
class Paid:
    """What a drain takes of one entry.

    Args:
        entry: As the table has it.
        end: All of its records before this offset are paid.
        records: How many that are.
        oldest_ms: When the log took in what comes next, or something before it; see `LedgerEntry`.
    """

    entry: LedgerEntry
    end: Offset
    records: int
    oldest_ms: int = 0

    def left(self) -> LedgerEntry | None:
        """Return what of the entry is still owed, or None if that is nothing."""
        if self.end >= self.entry.end:
            return None
        oldest_ms = max(self.entry.oldest_ms, self.oldest_ms)
        return replace(self.entry, start=self.end, records=self.entry.records - self.records, oldest_ms=oldest_ms)


def with_deferred(
    ledger: Iterable[LedgerEntry], deferred: Iterable[LedgerEntry], own_from: Offset | None
) -> tuple[LedgerEntry, ...]:
    """Return a ledger with what one partition's owner deferred, joined to the partition's last entry where it can be.

    Args:
        ledger: All entries, or the partition's alone.
        deferred: In the order of the log. One without records only lengthens the entry before it, so that what comes
            later can be joined to that: else a symbol that trades rarely would make an entry a commit.
        own_from: From here on this owner has committed the partition without a break, so that all entries follow its
            own idea of what a level defers; None if that is not known.
    """
    found = list(ledger)
    for entry in deferred:
        of_partition = [at for at, one in enumerate(found) if _partition(one) == _partition(entry)]
        joined = _joined(found[of_partition[-1]], entry, own_from) if of_partition else None
        if joined is not None:
            found[of_partition[-1]] = joined
        elif entry.records:
            found.append(entry)
    return tuple(found)


def _joined(before: LedgerEntry, after: LedgerEntry, own_from: Offset | None) -> LedgerEntry | None:
    """Return both as one entry, or None if it might name a key of which one part has records in the table."""
    if before.end != after.start or before.level != after.level:
        return None
    if after.records and (before.raw_file is None) != (after.raw_file is None):
        return None  # the one has to be brought in before the log's retention, the other has not
    ours = own_from is not None and before.start >= own_from
    if before.symbols != after.symbols and not ours:
        return None
    return replace(
        before,
        end=after.end,
        symbols=tuple(sorted({*before.symbols, *after.symbols})),
        records=before.records + after.records,
        raw_file=after.raw_file or before.raw_file,  # the later one leads to the earlier one
    )


def without_paid(ledger: Iterable[LedgerEntry], paid: Iterable[Paid]) -> tuple[LedgerEntry, ...]:
    """Return a ledger without what was paid of it."""
    left = {one.entry: one.left() for one in paid}
    entries = (left.get(entry, entry) for entry in ledger)
    return tuple(entry for entry in entries if entry is not None)


def to_drain(
    owed: Iterable[LedgerEntry],
    level: Level,
    urgent_before_ms: Mapping[TopicName, int],
    urgent_before: Mapping[tuple[TopicName, Partition], int] = _NOWHERE,
) -> list[LedgerEntry]:
    """Return the entries that are to be drained now, oldest first, those of one partition in the order of the log.

    Args:
        owed: The entries of the partitions that are owned, those of each partition in the order of the log.
        level: The present one. CIRCUIT_BREAK drains nothing, as it takes nothing in.
        urgent_before_ms: By topic, in UTC milliseconds: what is older would soon be removed by the log's retention,
            unless a raw file has it.
        urgent_before: The same by partition, as an offset: what begins before it would soon be removed for its bytes.
    """
    if level is Level.CIRCUIT_BREAK:
        return []
    newest: dict[tuple[TopicName, Partition], int] = {}
    ages: list[tuple[int, LedgerEntry]] = []
    for entry in owed:
        old = entry.oldest_ms < urgent_before_ms.get(entry.topic, 0) or entry.start < urgent_before.get(
            _partition(entry), 0
        )
        urgent = entry.raw_file is None and old
        if level <= DRAINS_UP_TO or urgent:
            # Producers set times: what is later in a partition never counts as older.
            newest[_partition(entry)] = max(entry.oldest_ms, newest.get(_partition(entry), 0))
            ages.append((newest[_partition(entry)], entry))
    return [entry for _, entry in sorted(ages, key=lambda aged: aged[0])]


def _partition(entry: LedgerEntry) -> tuple[TopicName, Partition]:
    return entry.topic, entry.partition
