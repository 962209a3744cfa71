"""A batch on its way into the table: decoded chunks, what they take of each partition, and what they leave out.

Columnar: a chunk of Kafka values becomes Arrow, is checked, deduplicated and given its position in the log, in a few
calls for thousands of records. Called by the sink's loop; never talks to Kafka, a catalog or a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2_core.codec import BatchDecoder, Rejected
from k2_core.intervals import Bools, Int64s
from k2_core.raw_files import NO_TIME_MS, Section, raw_rows
from k2_core.records import RecordType
from k2_core.state import CommitState, LedgerEntry
from k2_core.types import Level, Offset, Partition, TopicId, TopicName
from k2_sink.dedup import SeenIds
from k2_sink.deferral import Deferring, Stretch
from k2_sink.protocol import LogPartition, Span

CONFLICT_REASON: Final = "conflict"
"""Reason of a dead letter whose id is in the table with other content."""
CONTENT_COLUMNS: Final = ("side", "price", "quantity", "exchange_timestamp")
"""What two records of one id must agree in to be the same record twice."""


_COMPARED: Final = ["message_id", *CONTENT_COLUMNS]
Content = tuple[object, ...]


FindHeld = Callable[[pa.Table], pa.Table]
"""Returns, for some rows, those that the table holds of the same ids: `message_id` and the content columns."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Kafka values of one topic with their positions, in the order of the log within each partition.

    Args:
        topic: Of all of them.
        values: The bytes as they came.
        partitions: Of each value.
        offsets: Of each value.
        keys: Of each value, or None where nobody asked for them: they cost as much to take out as the values.
        first_ms: Where keys are given, when the log took in the first value of each partition, in UTC milliseconds.
        times_ms: When the log took in each value, likewise, or None where nobody asked for it.
    """

    topic: TopicName
    values: Sequence[bytes | None]
    partitions: Int64s
    offsets: Int64s
    keys: Sequence[bytes | None] | None = None
    first_ms: Mapping[int, int] = field(default_factory=dict)
    times_ms: Int64s | None = None

    def where(self, wanted: Bools) -> Chunk:
        """Return the values for which `wanted` is true."""
        if wanted.all():
            return self
        at = np.flatnonzero(wanted).tolist()
        keys = None if self.keys is None else [self.keys[number] for number in at]
        values = [self.values[number] for number in at]
        times_ms = None if self.times_ms is None else self.times_ms[wanted]
        partitions, offsets = self.partitions[wanted], self.offsets[wanted]
        return replace(self, values=values, partitions=partitions, offsets=offsets, keys=keys, times_ms=times_ms)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A value that becomes no row: its bytes, where it stood, and why."""

    topic: TopicName
    partition: Partition
    offset: Offset
    value: bytes | None
    reason: str
    detail: str


@dataclass(slots=True)
class _Account:
    """The running count of one partition: offsets [start, end) are taken, `records` of them were records."""

    start: Offset
    end: Offset
    ledger: tuple[LedgerEntry, ...]
    own_from: Offset
    records: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    stretches: list[Stretch] = field(default_factory=list)

    def span(self, at: LogPartition, raw_file: str | None) -> Span:
        markers = self.end - self.start - self.records
        deferred = tuple(stretch.entry(at, raw_file) for stretch in self.stretches)
        counts = (self.duplicates, self.dead_letters, markers)
        return Span(self.start, self.end, *counts, self.ledger, deferred, self.own_from)

    def pass_to(self, position: Offset) -> None:
        """Take offsets that hold no record; a level that is at work lasts over them."""
        if position > self.end:
            if self.stretches and self.stretches[-1].end == self.end:
                self.stretches[-1].end = position
            self.end = position

    def section(self, at: LogPartition) -> Section | None:
        """Return what the batch's raw file holds of the partition, or None if that is nothing."""
        records = sum(stretch.records for stretch in self.stretches if stretch.deferring.raw)
        previous = self.ledger[-1].raw_file if self.ledger else None
        return Section(*at, self.start, self.end, records, previous) if records else None

    def stretch(self, deferring: Deferring, oldest_ms: int) -> Stretch:
        """Return the stretch that goes on where the partition was read to, a new one if need be."""
        last = self.stretches[-1] if self.stretches else None
        if last is not None and last.end == self.end and last.deferring.level == deferring.level:
            return last
        found = Stretch(self.end, self.end, deferring, oldest_ms)
        owed = self.ledger[-1] if self.ledger else None
        if owed is not None and owed.end == found.start and deferring.follows(owed):
            found.before = frozenset(owed.symbols)
        self.stretches.append(found)
        return found


@dataclass(slots=True)
class Batch:
    """What was read since the last commit.

    Args:
        record_type: Of the rows.
        seen: The ids of the table; rows of this batch are pending in it.
        raw_file: Once it is written, the file that holds `raw`.
    """

    record_type: RecordType
    seen: SeenIds
    rows: int = 0
    raw_file: str | None = None
    _tables: list[pa.Table] = field(default_factory=list)
    _raw: dict[TopicName, list[pa.Table]] = field(default_factory=dict)
    _raw_records: int = 0
    _accounts: dict[LogPartition, _Account] = field(default_factory=dict)

    def start_at(self, at: LogPartition, position: Offset, ledger: tuple[LedgerEntry, ...] = ()) -> None:
        """Say where a partition begins in this batch, and what the table owes of it; nothing of it is taken yet."""
        self._accounts[at] = _Account(position, position, ledger, position)

    def begin_at(self, at: LogPartition, position: Offset) -> None:
        """Take a partition up at a position, or go on there with one that has been begun."""
        if at in self._accounts:
            self._accounts[at].pass_to(position)
        else:
            self.start_at(at, position)

    def following(self, state: CommitState) -> Batch:
        """Return an empty batch of the same partitions that goes on where this one ends, which is in the table."""
        found = Batch(self.record_type, self.seen)
        for at, account in self._accounts.items():
            found._accounts[at] = _Account(account.end, account.end, state.deferred(*at), account.own_from)
        return found

    def restarted(self, partitions: Set[LogPartition]) -> Batch:
        """Return an empty batch of some of the partitions that begins where this one does."""
        found = Batch(self.record_type, self.seen)
        for at in self._accounts.keys() & partitions:
            account = self._accounts[at]
            found._accounts[at] = _Account(account.start, account.start, account.ledger, account.own_from)
        return found

    def position(self, at: LogPartition) -> Offset | None:
        """Return the next offset of a partition that this batch wants, or None if it does not own it."""
        account = self._accounts.get(at)
        return account.end if account else None

    def pass_to(self, at: LogPartition, position: Offset) -> None:
        """Take everything before a position: what was no record is a marker."""
        self._accounts[at].pass_to(position)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return all(account.end == account.start for account in self._accounts.values())

    def spans(self) -> dict[LogPartition, Span]:
        """Return what the batch takes of each partition that it owns."""
        return {at: account.span(at, self.raw_file) for at, account in self._accounts.items()}

    def ledger(self) -> list[LedgerEntry]:
        """Return what the table owed of its partitions when it was begun."""
        return [entry for account in self._accounts.values() for entry in account.ledger]

    @property
    def deferred(self) -> int:
        """Records that it defers."""
        return sum(stretch.records for account in self._accounts.values() for stretch in account.stretches)

    def waits(self, level: Level) -> dict[LogPartition, bool]:
        """Return whether all waits that was read at a level, for each partition that is read at it now."""
        lasts = {at: account.stretches[-1] for at, account in self._accounts.items() if account.stretches}
        return {at: one.records == one.end - one.start for at, one in lasts.items() if one.deferring.level is level}

    @property
    def held(self) -> int:
        """Records in memory: rows, and those that are to be in a raw file."""
        return self.rows + self._raw_records

    def raw(self) -> dict[TopicName, pa.Table]:
        """Return the records for the raw file, by topic; see `raw_files.raw_rows`."""
        return {topic: pa.concat_tables(tables) for topic, tables in sorted(self._raw.items())}

    def sections(self) -> list[Section]:
        """Return what `raw` is, in its order."""
        found = [account.section(at) for at, account in sorted(self._accounts.items())]
        return [section for section in found if section is not None]

    def positions(self) -> dict[LogPartition, Offset]:
        """Return the read position of each partition that it owns."""
        return {at: account.end for at, account in self._accounts.items()}

    def before(self, ends: Mapping[LogPartition, Offset]) -> bool:
        """Return whether a partition that it owns has not been read up to its end."""
        return any(account.end < ends[at] for at, account in self._accounts.items() if at in ends)

    def table(self) -> pa.Table:
        """Return the rows in the table's Arrow form, in the order of reading."""
        return pa.concat_tables(self._tables) if self._tables else self.record_type.table_schema.empty_table()

    def add(
        self,
        chunk: Chunk,
        decoder: BatchDecoder,
        topic_id: TopicId,
        find_held: FindHeld,
        deferring: Deferring | None = None,
    ) -> list[DeadLetter]:
        """Take a chunk in.

        Args:
            chunk: Values that follow on from this batch's positions; those before them are passed over silently, they
                are what a consumer had fetched before a seek.
            decoder: Of the chunk's topic.
            topic_id: Of the chunk's topic.
            find_held: Asked, rarely, for the rows of ids that the table holds.
            deferring: The level, where some records are to wait; the chunk has keys then.

        Raises:
            RetryableError: A schema or a held row could not be had: nothing of the chunk was taken, read it again.

        Returns:
            What must be in the dead-letter topic before this batch is committed.
        """
        chunk = self._unread(chunk)
        if deferring is None or chunk.keys is None:
            letters, duplicates = self._take(chunk, decoder, topic_id, find_held)
        else:
            numbers, waits = deferring.split(chunk.keys)
            letters, duplicates = self._take(chunk.where(~waits), decoder, topic_id, find_held)
            self._defer(chunk, deferring, numbers, waits)
            if deferring.raw:
                self._keep(chunk, waits)
        self._settle(chunk, duplicates, letters)
        return letters

    def _take(
        self, chunk: Chunk, decoder: BatchDecoder, topic_id: TopicId, find_held: FindHeld
    ) -> tuple[list[DeadLetter], Int64s]:
        """Take values in, and return those that are dead letters, and the partition of each that is a duplicate."""
        if not len(chunk.values):
            return [], chunk.partitions
        decoded = decoder.decode(chunk.values)
        rows, where = decoded.rows, decoded.indexes
        repeated, fresh = self.seen.duplicates(rows)
        letters = [_letter(chunk, rejected) for rejected in decoded.rejected]
        duplicates = where[:0]
        if repeated.any():
            conflicts = self._conflicts(rows, where, repeated, find_held)
            letters += [_letter(chunk, conflict) for conflict in conflicts]
            contested = np.array([conflict.index for conflict in conflicts], dtype=np.int64)
            duplicates = np.setdiff1d(where[repeated], contested)
            keep = ~repeated
            rows, where = rows.filter(pa.array(keep)), where[keep]
        self.seen.expect(fresh)
        self._tables.append(_positioned(rows, chunk, where, topic_id))
        self.rows += rows.num_rows
        return letters, chunk.partitions[duplicates]

    def _unread(self, chunk: Chunk) -> Chunk:
        wanted: Bools = np.zeros(len(chunk.values), dtype=np.bool_)
        for partition in np.unique(chunk.partitions).tolist():
            position = self.position((chunk.topic, Partition(partition)))
            if position is not None:
                wanted |= (chunk.partitions == partition) & (chunk.offsets >= position)
        return chunk.where(wanted)

    def _defer(self, chunk: Chunk, deferring: Deferring, numbers: Int64s, waits: Bools) -> None:
        for partition in np.unique(chunk.partitions).tolist():
            here = chunk.partitions == partition
            waiting = numbers[here & waits]
            symbols = [deferring.classes.symbols[number] for number in np.unique(waiting).tolist()]
            stretch = self._accounts[chunk.topic, Partition(partition)].stretch(
                deferring, chunk.first_ms.get(partition, 0)
            )
            stretch.add(Offset(int(chunk.offsets[here][-1]) + 1), symbols, waiting.size)

    def _keep(self, chunk: Chunk, waits: Bools) -> None:
        """Keep the bytes of the records that wait."""
        if waits.any():
            rows = raw_rows(
                partition=chunk.partitions,
                offset=chunk.offsets,
                timestamp_ms=chunk.times_ms if chunk.times_ms is not None else np.full(waits.size, NO_TIME_MS),
                key=chunk.keys,
                value=chunk.values,
            )
            self._raw.setdefault(chunk.topic, []).append(rows.filter(pa.array(waits)))
            self._raw_records += int(waits.sum())

    def _settle(self, chunk: Chunk, duplicates: Int64s, letters: list[DeadLetter]) -> None:
        for partition in np.unique(chunk.partitions).tolist():
            account = self._accounts[chunk.topic, Partition(partition)]
            offsets = chunk.offsets[chunk.partitions == partition]
            account.end = Offset(int(offsets[-1]) + 1)
            account.records += offsets.size
            account.duplicates += int((duplicates == partition).sum())
            account.dead_letters += sum(letter.partition == partition for letter in letters)

    def _conflicts(self, rows: pa.Table, where: Int64s, repeated: Bools, find_held: FindHeld) -> list[Rejected]:
        """Return the repeated ids whose content is not what the table, this batch or these rows hold already."""
        suspects = rows.filter(pa.array(repeated))
        held = [find_held(suspects), *(_with_ids(table, suspects) for table in self._tables)]
        firsts = content_by_id(pa.concat_tables([part.select(_COMPARED) for part in held]))
        for message_id, content in content_by_id(rows.filter(pa.array(~repeated))).items():
            firsts.setdefault(message_id, content)
        found = []
        for at, (message_id, content) in zip(where[repeated].tolist(), _contents(suspects), strict=True):
            first = firsts.get(message_id, content)
            if first != content:
                detail = f"found {_shown(content)} for {message_id}, expected {_shown(first)} as the table has it"
                found.append(Rejected(at, CONFLICT_REASON, detail))
        return found


def content_by_id(rows: pa.Table) -> dict[str, Content]:
    """Return each id's content, of the first row that has it. Per row: only for the few that are in question."""
    contents: dict[str, Content] = {}
    for message_id, content in _contents(rows):
        contents.setdefault(message_id, content)
    return contents


def _contents(rows: pa.Table) -> list[tuple[str, Content]]:
    ids = rows.column("message_id").to_pylist()
    columns = [rows.column(name).to_pylist() for name in CONTENT_COLUMNS]
    return list(zip(ids, zip(*columns, strict=True), strict=True))


def _with_ids(table: pa.Table, suspects: pa.Table) -> pa.Table:
    return table.filter(pc.is_in(table.column("message_id"), suspects.column("message_id").combine_chunks()))


def _shown(content: Content) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(CONTENT_COLUMNS, content, strict=True))


def _letter(chunk: Chunk, rejected: Rejected) -> DeadLetter:
    at = rejected.index
    return DeadLetter(
        chunk.topic,
        Partition(int(chunk.partitions[at])),
        Offset(int(chunk.offsets[at])),
        chunk.values[at],
        rejected.reason,
        rejected.detail,
    )


def _positioned(rows: pa.Table, chunk: Chunk, where: Int64s, topic_id: TopicId) -> pa.Table:
    """Add the columns that a table has beyond its records' own; see `records.TABLE_COLUMNS`."""
    event_time = pc.coalesce(rows.column("exchange_timestamp"), rows.column("receive_timestamp"))
    added: Mapping[str, pa.Array | pa.ChunkedArray] = {
        "event_time": event_time,
        "topic_id": pa.repeat(pa.scalar(topic_id, pa.string()), rows.num_rows),
        "kafka_partition": pa.array(chunk.partitions[where].astype(np.int32)),
        "kafka_offset": pa.array(chunk.offsets[where]),
    }
    return pa.Table.from_arrays(
        [*rows.columns, *added.values()],
        schema=pa.schema([*rows.schema, *(_field(name, column.type) for name, column in added.items())]),
    )


def _field(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)
