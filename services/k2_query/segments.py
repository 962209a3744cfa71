"""The tail in memory: the log's newest records as immutable Arrow segments with an index, bounded in bytes.

`k2_query.tail` appends, the lake's refresher trims what a commit has taken in, queries take views. A view is a tuple
of references, so it stays valid whatever happens after it. Segments merge like those of a log-structured tree, so that
thousands of small polls cost a query no more than a few large ones. Past the byte limit the oldest segments lose
their rows and keep their index: a query reads them from Kafka again only if the index says that it must.

No Kafka here and no Python per record.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from k2_core.records import UTC_MICROSECONDS, RecordType
from k2_core.types import Offset, TopicId, TopicName
from k2_query.boundary import LogPartition, LogRange

Int64s: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
Bools: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]

SEGMENT_ROWS: Final = 65_536
"""A segment grows no further: small enough to drop one by one, large enough that 10 M rows are 150 of them."""
_BYTES_PER_INDEXED_ROW: Final = 32


@dataclass(frozen=True, slots=True)
class Window:
    """What a query asks of rows: a symbol, or None for any, and event times [start_us, end_us) in UTC microseconds."""

    symbol: str | None
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows with what the index needs of them, in the order of the log.

    Args:
        rows: In the wire's form.
        codes: Each row's symbol, as a number of the store's.
        event_us: Each row's event time.
        slots: Each row's partition, as a number of the store's.
        offsets: Each row's offset.
    """

    rows: pa.Table
    codes: Int64s
    event_us: Int64s
    slots: Int64s
    offsets: Int64s

    def where(self, mask: Bools) -> Batch:
        """Return the rows under a mask."""
        kept = self.rows.filter(pa.array(mask)).combine_chunks()
        return Batch(kept, self.codes[mask], self.event_us[mask], self.slots[mask], self.offsets[mask])


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the log: a batch, or only its index once it was evicted.

    Args:
        batch: None when evicted.
        spans: By slot the positions [start, end) that it covers, markers and rejected records included.
        times: By symbol code the least and the greatest event time.
        size: Rows, also of an evicted segment.
        nbytes: Bytes in memory, 0 when evicted.
    """

    batch: Batch | None
    spans: Mapping[int, tuple[int, int]]
    times: Mapping[int, tuple[int, int]]
    size: int
    nbytes: int

    def may_hold(self, code: int | None, window: Window) -> bool:
        """Whether the index leaves it open that a row of the window is here."""
        bounds = self.times.values() if code is None else [self.times[code]] if code in self.times else []
        return any(low < window.end_us and high >= window.start_us for low, high in bounds)


class TailStore:
    """The tail's rows and how far each partition has been read. Thread-safe.

    Args:
        record_type: What the rows are.
        max_bytes: Above this the oldest segments are evicted.
    """

    def __init__(self, record_type: RecordType, max_bytes: int) -> None:
        self._record_type = record_type
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._segments: tuple[Segment, ...] = ()
        self._topic_ids: Mapping[TopicName, TopicId] = {}
        self._slots: tuple[LogPartition, ...] = ()
        self._slot_of: Mapping[LogPartition, int] = {}
        self._starts = np.empty(0, dtype=np.int64)
        self._positions = np.empty(0, dtype=np.int64)
        self._leases: dict[int, Int64s] = {}
        self._lease_count = 0
        self._waiting = 0
        self._codes: dict[str, int] = {}
        self.evicted_rows = 0
        self.is_behind = False
        """Whether whoever waited last did so in vain."""

    def restart(self, starts: Mapping[LogPartition, Offset], topic_ids: Mapping[TopicName, TopicId]) -> None:
        """Forget everything and begin at these positions."""
        with self._changed:
            self._segments = ()
            self._topic_ids = dict(topic_ids)
            self._slots = tuple(starts)
            self._slot_of = {at: slot for slot, at in enumerate(self._slots)}
            self._starts = np.array(list(starts.values()), dtype=np.int64)
            self._positions = self._starts.copy()
            self._leases = {lease: self._starts.copy() for lease in self._leases}
            self._changed.notify_all()

    def slot(self, at: LogPartition) -> int:
        """Return a partition's slot."""
        return self._slot_of[at]

    def covered(self) -> dict[LogPartition, tuple[Offset, Offset]]:
        """Return the positions [start, end) of each partition that the store accounts for."""
        with self._changed:
            starts, positions = self._starts.tolist(), self._positions.tolist()
            return {at: (Offset(starts[slot]), Offset(positions[slot])) for at, slot in self._slot_of.items()}

    @property
    def rows(self) -> int:
        """Rows in memory."""
        return sum(segment.size for segment in self._segments if segment.batch is not None)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(segment.nbytes for segment in self._segments)

    def append(self, rows: pa.Table, slots: Int64s, offsets: Int64s, ends: Mapping[int, int]) -> None:
        """Add what one poll brought.

        Args:
            rows: The good records in the wire's form, in the log's order within each slot.
            slots: Each row's slot.
            offsets: Each row's offset.
            ends: By slot the position after this poll; also of slots that brought no row.
        """
        with self._changed:
            spans = {slot: (int(self._positions[slot]), end) for slot, end in ends.items()}
            batch = Batch(rows, self._encode(rows), event_times_us(rows), slots, offsets)
            self._segments = _merged((*self._segments, _segment(batch, spans)))
            for slot, end in ends.items():
                self._positions[slot] = end
            self._evict()
            self._changed.notify_all()

    def trim(self, floor: Mapping[LogPartition, Offset]) -> None:
        """Drop what lies below `floor`, which a commit has taken in, except what a running query still holds."""
        with self._changed:
            wanted = self._starts.copy()
            for at, position in floor.items():
                slot = self._slot_of.get(at)
                if slot is not None:
                    wanted[slot] = max(wanted[slot], min(position, self._positions[slot]))
            for held in self._leases.values():
                wanted = np.minimum(wanted, held)
            if np.any(wanted > self._starts):
                self._segments = tuple(kept for one in self._segments if (kept := _above(one, wanted)) is not None)
                self._starts = wanted

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Keep everything that is here now until the end of the block, so that a snapshot can be pinned meanwhile."""
        with self._changed:
            self._lease_count += 1
            lease = self._lease_count
            self._leases[lease] = self._starts.copy()
        try:
            yield
        finally:
            with self._changed:
                del self._leases[lease]

    def wait_for(self, ends: Mapping[LogPartition, Offset], timeout_s: float) -> bool:
        """Wait until these positions are reached; returns whether they were."""
        with self._changed:
            reached = self._reached(ends)
            if not reached:
                self._waiting += 1
                self._changed.notify_all()
                try:
                    reached = self._changed.wait_for(lambda: self._reached(ends), timeout_s)
                finally:
                    self._waiting -= 1
            self.is_behind = not reached
            return reached

    def linger(self, longest_s: float) -> None:
        """Return after a while, or as soon as somebody waits for what comes next; called by whoever appends."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting > 0, longest_s)

    def _reached(self, ends: Mapping[LogPartition, Offset]) -> bool:
        for at, end in ends.items():
            slot = self._slot_of.get(at)
            if slot is None or self._positions[slot] < end:
                return False
        return True

    def view(self) -> TailView:
        """Return everything that is here now."""
        with self._changed:
            return TailView(
                self._record_type,
                self._segments,
                self._slots,
                self._slot_of,
                self._starts.copy(),
                self._positions.copy(),
                self._topic_ids,
                self._codes,
            )

    def _encode(self, rows: pa.Table) -> Int64s:
        coded = rows.column("symbol").combine_chunks().dictionary_encode()
        known = [self._codes.setdefault(symbol, len(self._codes)) for symbol in coded.dictionary.to_pylist()]
        codes: Int64s = np.array(known, dtype=np.int64)[coded.indices.to_numpy()]
        return codes

    def _evict(self) -> None:
        excess = self.nbytes - self._max_bytes
        kept = list(self._segments)
        for at, segment in enumerate(kept):
            if excess <= 0:
                break
            if segment.batch is not None:
                excess -= segment.nbytes
                self.evicted_rows += segment.size
                kept[at] = replace(segment, batch=None, nbytes=0)
        self._segments = tuple(kept)


@dataclass(frozen=True, slots=True)
class TailView:
    """The tail at one moment. Starts and positions are by slot; [start, position) is covered."""

    record_type: RecordType
    segments: Sequence[Segment]
    slots: tuple[LogPartition, ...]
    slot_of: Mapping[LogPartition, int]
    starts: Int64s
    positions: Int64s
    topic_ids: Mapping[TopicName, TopicId]
    codes: Mapping[str, int]

    def covered(self, at: LogPartition) -> tuple[Offset, Offset]:
        """Return the positions [start, end) of a partition that this view accounts for; empty for a stranger."""
        slot = self.slot_of.get(at)
        if slot is None:
            return Offset(0), Offset(0)
        return Offset(int(self.starts[slot])), Offset(int(self.positions[slot]))

    def select(self, window: Window, ranges: Sequence[LogRange]) -> tuple[pa.Table, tuple[LogRange, ...]]:
        """Return the rows of the window within the ranges, in the table's form, and ranges that were evicted.

        An evicted range is returned only where its index leaves it open that it holds rows of the window.
        """
        low = np.full(len(self.slots), np.iinfo(np.int64).max)
        high = np.zeros(len(self.slots), dtype=np.int64)
        for wanted in ranges:
            slot = self.slot_of.get(wanted.at)
            if slot is not None:
                low[slot], high[slot] = wanted.start, wanted.end
        code = None if window.symbol is None else self.codes.get(window.symbol, -1)
        found: list[Batch] = []
        evicted: list[LogRange] = []
        for segment in self.segments:
            if not segment.may_hold(code, window):
                continue
            if segment.batch is None:
                evicted.extend(self._spans(segment, low, high))
            else:
                mask = _mask(segment.batch, code, window, low, high)
                if mask.any():
                    found.append(segment.batch.where(mask))
        return table_form(found, self.record_type, self.slots, self.topic_ids), tuple(evicted)

    def _spans(self, segment: Segment, low: Int64s, high: Int64s) -> Iterator[LogRange]:
        for slot, (start, end) in segment.spans.items():
            part = LogRange(self.slots[slot], Offset(max(start, int(low[slot]))), Offset(min(end, int(high[slot]))))
            if len(part):
                yield part


def event_times_us(rows: pa.Table) -> Int64s:
    """Return each row's event time: the exchange's, or where there is none the time of receipt."""
    exchange, received = rows.column("exchange_timestamp"), rows.column("receive_timestamp")
    values: Int64s = received.cast(pa.int64()).to_numpy()
    if exchange.null_count == rows.num_rows:
        return values
    known: Int64s = exchange.cast(pa.int64()).fill_null(0).to_numpy()
    return np.where(exchange.is_null().to_numpy(), values, known) if exchange.null_count else known


def table_form(
    batches: Sequence[Batch],
    record_type: RecordType,
    slots: Sequence[LogPartition],
    topic_ids: Mapping[TopicName, TopicId],
) -> pa.Table:
    """Return batches as rows of the table: the wire's columns, then event time and log position."""
    if not batches:
        return record_type.table_schema.empty_table()
    topics = pa.array([topic_ids[at.topic] for at in slots], pa.string())
    numbers = np.array([at.partition for at in slots], dtype=np.int32)
    parts = []
    for batch in batches:
        columns = [
            *batch.rows.columns,
            pa.array(batch.event_us).cast(UTC_MICROSECONDS),
            topics.take(pa.array(batch.slots)),
            pa.array(numbers[batch.slots]),
            pa.array(batch.offsets),
        ]
        parts.append(pa.Table.from_arrays(columns, schema=record_type.table_schema))
    return pa.concat_tables(parts)


def _mask(batch: Batch, code: int | None, window: Window, low: Int64s, high: Int64s) -> Bools:
    mask: Bools = (batch.event_us >= window.start_us) & (batch.event_us < window.end_us)
    if code is not None:
        mask &= batch.codes == code
    mask &= (batch.offsets >= low[batch.slots]) & (batch.offsets < high[batch.slots])
    return mask


def _segment(batch: Batch, spans: Mapping[int, tuple[int, int]]) -> Segment:
    size = batch.rows.num_rows
    return Segment(batch, spans, _times(batch), size, batch.rows.nbytes + size * _BYTES_PER_INDEXED_ROW)


def _times(batch: Batch) -> dict[int, tuple[int, int]]:
    if not len(batch.codes):
        return {}
    unique, inverse = np.unique(batch.codes, return_inverse=True)
    low = np.full(len(unique), np.iinfo(np.int64).max)
    high = np.full(len(unique), np.iinfo(np.int64).min)
    np.minimum.at(low, inverse, batch.event_us)
    np.maximum.at(high, inverse, batch.event_us)
    return dict(zip(unique.tolist(), zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _merged(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Merge the newest segments while the last is at least half of the one before it: log2(rows) of them stay."""
    while len(segments) > 1:
        older, newer = segments[-2:]
        if older.batch is None or newer.batch is None or 2 * newer.size < older.size:
            break
        if older.size + newer.size > SEGMENT_ROWS:
            break
        segments = (*segments[:-2], _join(older, older.batch, newer, newer.batch))
    return segments


def _join(older: Segment, first: Batch, newer: Segment, second: Batch) -> Segment:
    spans = dict(older.spans)
    for slot, (start, end) in newer.spans.items():
        spans[slot] = (spans[slot][0] if slot in spans else start, end)
    batch = Batch(
        pa.concat_tables([first.rows, second.rows]).combine_chunks(),
        np.concatenate((first.codes, second.codes)),
        np.concatenate((first.event_us, second.event_us)),
        np.concatenate((first.slots, second.slots)),
        np.concatenate((first.offsets, second.offsets)),
    )
    return _segment(batch, spans)


def _above(segment: Segment, floor: Int64s) -> Segment | None:
    """Return a segment without what lies below the floor, or None if nothing is left."""
    spans = {slot: (max(start, int(floor[slot])), end) for slot, (start, end) in segment.spans.items()}
    spans = {slot: (start, end) for slot, (start, end) in spans.items() if start < end}
    if not spans:
        return None
    if spans == segment.spans:
        return segment
    if segment.batch is None:
        return replace(segment, spans=spans)
    return _segment(segment.batch.where(segment.batch.offsets >= floor[segment.batch.slots]), spans)
