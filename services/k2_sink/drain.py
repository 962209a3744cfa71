"""Reads again what a level deferred, and keeps what is owed until it can be committed.

A thin reader of the log beside the sink's own, without offsets of its own. What to read is said by `k2_sink.ledger`,
where by `k2_sink.owed`. Called by the sink's loop between its steps; what it holds may be dropped at any time, as the
ledger in the table still has it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition

from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError, RawFileError, StateError
from k2_core.intervals import Bools
from k2_core.kafka import client_config
from k2_core.state import LedgerEntry
from k2_core.types import Level, Offset, TopicName
from k2_sink.batch import Chunk
from k2_sink.consumer import CHUNK_RECORDS, to_chunk, translated
from k2_sink.ledger import Paid, to_drain
from k2_sink.protocol import adopt_topic
from k2_sink.size_watch import SizeWatch

DRAIN_RECORDS_PER_S: Final = 20_000
"""A fifth of what one core takes in: what was put off comes back in minutes, and what comes in now does not wait."""
PASSED_OVER_COST: Final = 0.1
"""What a record that is not owed costs of the rate: it is fetched and its key looked at, and that is all."""
URGENT_SHARE: Final = 0.8
"""Of the log's retention: what is owed for longer is brought in even under load, before it is removed."""
REST_S: Final = 1.0
STUCK_REST_S: Final = 60.0
COUNT_PATIENCE_S: Final = 30.0
_COUNT_WAIT_S: Final = 0.5
_BURST_S: Final = 1.0
_FETCH_BYTES: Final = 1024 * 1024

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Taken:
    """What was read of one entry so far: `chunks` hold what is owed of its offsets before `end`."""

    entry: LedgerEntry
    end: Offset
    chunks: list[Chunk] = field(default_factory=list)
    records: int = 0
    oldest_ms: int = 0

    @property
    def done(self) -> bool:
        """Whether all of the entry was read."""
        return self.end >= self.entry.end

    def restart(self) -> None:
        """Forget what was read: it is to be read from elsewhere."""
        self.end, self.records = self.entry.start, 0
        self.chunks.clear()

    def add(self, owed: Chunk) -> None:
        """Keep what is owed of what was read."""
        if len(owed.values):
            self.chunks.append(replace(owed, keys=None))
            self.records += len(owed.values)

    def paid(self) -> Paid:
        """Return what a commit takes off the ledger.

        Raises:
            StateError: All of the range was read, and did not hold what is owed.
        """
        entry = self.entry
        if self.records > entry.records or (self.done and self.records != entry.records):
            raise StateError(
                f"topic {entry.topic} partition {entry.partition}: found {self.records} records of "
                f"{', '.join(entry.symbols)} in offsets [{entry.start}, {self.end}), expected the {entry.records} that "
                f"are owed to the table. To record what is lost, and go on: `{adopt_topic(entry.topic)}`"
            )
        return Paid(entry, self.end, self.records, self.oldest_ms)


class RangeReader:
    """Reads one ledger entry's range at a time.

    Args:
        settings: Where Kafka is.
        group: One that may be named; it is never joined.
    """

    def __init__(self, settings: ServiceSettings, group: str) -> None:
        self._consumer = Consumer(
            client_config(
                settings,
                group_id=group,  # the client wants one
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="error",
                enable_partition_eof=True,  # a range may end in markers
                isolation_level="read_committed",
                fetch_queue_backoff_ms=5,
                fetch_message_max_bytes=_FETCH_BYTES,
                queued_max_messages_kbytes=8 * 1024,
            ),
            logger=_log,
        )

    def begin(self, taken: Taken) -> None:
        """Go where an entry was read to."""
        self._consumer.assign([TopicPartition(taken.entry.topic, taken.entry.partition, taken.end)])

    def read(self, taken: Taken, max_records: int, timeout_s: float = 0.0) -> tuple[int, int]:
        """Read on, and return how many records that brought, and how many others were passed over.

        Raises:
            StateError: The log no longer holds what is owed.
            KafkaUnavailableError: Kafka says so in place of a record.
        """
        entry, messages = taken.entry, []
        end = taken.end
        for message in self._consumer.consume(min(max_records, CHUNK_RECORDS), timeout_s):
            fault = message.error()
            if fault is None:
                messages.append(message)
            elif fault.code() != KafkaError._PARTITION_EOF:
                raise translated((entry.topic, entry.partition), fault)
            elif message.partition() == entry.partition:
                end = max(end, Offset(message.offset() or 0))
        taken_before = taken.records
        if messages:
            chunk = to_chunk(entry.topic, messages, keys=True)
            end = max(end, Offset(int(chunk.offsets[-1]) + 1))
            taken.oldest_ms = max(0, messages[-1].timestamp()[1])
            taken.add(chunk.where(_owed(chunk, taken)))
        taken.end = min(end, entry.end)
        return taken.records - taken_before, len(messages) - (taken.records - taken_before)

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()


def _owed(chunk: Chunk, taken: Taken) -> Bools:
    keys = {symbol.encode() for symbol in taken.entry.symbols}
    named = np.fromiter(map(keys.__contains__, chunk.keys or ()), dtype=np.bool_, count=len(chunk.values))
    inside: Bools = (chunk.offsets >= taken.end) & (chunk.offsets < taken.entry.end)
    return named & inside


def count_owed(reader: RangeReader, entry: LedgerEntry, start: Offset) -> int:
    """Return how many of the records that an entry owes the log still has, from an offset on.

    Raises:
        KafkaUnavailableError: Nothing came for `COUNT_PATIENCE_S`.
    """
    taken = Taken(entry, start)
    reader.begin(taken)
    deadline_s = time.monotonic() + COUNT_PATIENCE_S
    while not taken.done:
        before = taken.end
        reader.read(taken, CHUNK_RECORDS, _COUNT_WAIT_S)
        taken.chunks.clear()
        if taken.end > before:
            deadline_s = time.monotonic() + COUNT_PATIENCE_S
        elif time.monotonic() > deadline_s:
            raise KafkaUnavailableError(f"topic {entry.topic}: found nothing from {taken.end}, expected {entry.end}")
    return taken.records


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a drain.

    Args:
        records_per_s: That it takes out of the log.
        commit_records: In hand, at most.
        retention_ms: For how long topics keep records, where that is known.
        size: How much of them, where bytes are bounded.
    """

    records_per_s: float
    commit_records: int
    retention_ms: Mapping[TopicName, int]
    size: SizeWatch = field(default_factory=SizeWatch)

    def urgent_before_ms(self, now_ms: int) -> dict[TopicName, int]:
        """Return for each topic the time in the log before which what is owed cannot wait any longer."""
        return {topic: now_ms - int(URGENT_SHARE * age_ms) for topic, age_ms in self.retention_ms.items()}

    def in_hand(self, interval_s: float) -> int:
        """Return how many records one commit is to bring at most: those of an interval."""
        return max(CHUNK_RECORDS, min(self.commit_records, int(self.records_per_s * interval_s)))


class Reader(Protocol):
    """Reads one ledger entry at a time: `RangeReader` from the log, `k2_sink.owed.OwedReader` from where it is best."""

    def begin(self, taken: Taken) -> None:
        """Go where an entry was read to."""

    def read(self, taken: Taken, max_records: int) -> tuple[int, int]:
        """Read on, and return how many records that brought, and how many others were passed over."""

    def close(self) -> None:
        """Let go of everything."""


class Drain:
    """Gathers what is owed, at a bounded rate, until there is enough for a commit.

    Args:
        open_reader: Makes a reader; called when there is something to read.
        limits: What bounds it.
        clock: Monotonic seconds.
        utc_s: Seconds since 1970.
    """

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        utc_s: Callable[[], float] = time.time,
    ) -> None:
        self._open_reader = open_reader
        self._limits = limits
        self._clock = clock
        self._utc_s = utc_s
        self._budget = 0.0
        self._budget_at = clock()
        self._rest_until = clock()
        self._reader: Reader | None = None
        self._begun_at = 0.0
        self._reading: Taken | None = None
        self._taken: list[Taken] = []
        self._stuck: dict[tuple[object, ...], tuple[float, str]] = {}

    @property
    def trouble(self) -> str | None:
        """What cannot be brought in although it is owed, or None; the rest goes on."""
        return next((said for _, said in self._stuck.values()), None)

    @property
    def stuck(self) -> int:
        """How many ranges cannot be brought in: neither a raw file nor the log has them."""
        return len(self._stuck)

    def due(self, owed: Iterable[LedgerEntry], level: Level) -> list[LedgerEntry]:
        """Return what is to be brought in now and can be; see `ledger.to_drain`."""
        before_ms = self._limits.urgent_before_ms(int(self._utc_s() * 1000))
        entries = to_drain(owed, level, before_ms, self._limits.size.before(URGENT_SHARE))
        return [one for one in entries if self._stuck.get(_place(one), (0.0, ""))[0] <= self._clock()]

    def step(self, owed: Sequence[LedgerEntry], level: Level, interval_s: float) -> list[Taken]:
        """Read on for a moment, without waiting.

        Args:
            owed: What the table owes of the partitions that are owned.
            level: The present one.
            interval_s: Between commits, about.

        Raises:
            StateError: The log no longer holds what is owed.
            KafkaUnavailableError: Kafka says so in place of a record.

        Returns:
            What is to be committed now, as it is enough, or an interval's worth; nothing if there is time yet.
        """
        if self._clock() < self._rest_until:
            return []
        places = set(map(_place, owed))
        self._stuck = {place: said for place, said in self._stuck.items() if place in places}
        entries = self.due(owed, level)
        if not entries:
            self.close()
            return []
        self._rebase(entries)
        in_hand = self._limits.in_hand(interval_s)
        current = self._current(entries)
        room = min(self._allowed(), in_hand - self._records)
        if current is not None and room > 0 and self._reader is not None:
            try:
                brought, passed_over = self._reader.read(current, room)
            except RawFileError as error:
                self._put_aside(current.entry, error)
                return []
            self._budget -= brought + PASSED_OVER_COST * passed_over
        exhausted = len(self._taken) == len(entries) and self._taken[-1].done
        if exhausted or self._records >= in_hand or self._clock() - self._begun_at >= interval_s:
            return [one for one in self._taken if one.end > one.entry.start]
        return []

    def _put_aside(self, entry: LedgerEntry, error: RawFileError) -> None:
        """Go on with the rest, and look again later: somebody may have put the file back."""
        _log.error("drain: stays owed, nothing has it", extra={"error": str(error), "retry_s": STUCK_REST_S})
        self._stuck[_place(entry)] = (self._clock() + STUCK_REST_S, str(error))
        self.drop()

    @property
    def _records(self) -> int:
        return sum(one.records for one in self._taken)

    def rest(self) -> None:
        """Begin anew after a while."""
        self.close()
        self._rest_until = self._clock() + REST_S

    def _rebase(self, entries: Sequence[LedgerEntry]) -> None:
        """Follow entries that grew at their ends meanwhile; drop everything if they changed in another way."""
        for number, one in enumerate(self._taken):
            entry = entries[number] if number < len(entries) else None
            if entry is None or _identity(entry) != _identity(one.entry) or entry.end < one.entry.end:
                self.drop()
                return
            if entry.end != one.entry.end and one is self._reading:
                self._reading = None  # the reader may be past the former end, with what lies there not kept
            one.entry = entry

    def _current(self, entries: Sequence[LedgerEntry]) -> Taken | None:
        """Return what to read on with: the last one begun or, once that is done, the next."""
        if not self._taken or self._taken[-1].done:
            if len(self._taken) == len(entries):
                return None
            entry = entries[len(self._taken)]
            self._taken.append(Taken(entry, entry.start))
            self._begun_at = self._begun_at if len(self._taken) > 1 else self._clock()
        if self._reading is not self._taken[-1]:
            self._reading = self._taken[-1]
            self._reader = self._reader or self._open_reader()
            self._reader.begin(self._reading)
        return self._reading

    def _allowed(self) -> int:
        now, rate = self._clock(), self._limits.records_per_s
        self._budget = min(self._budget + (now - self._budget_at) * rate, rate * _BURST_S)
        self._budget_at = now
        return int(self._budget)

    def drop(self) -> None:
        """Forget what is in hand: it is committed, or the ledger has it still."""
        self._taken = []
        self._reading = None

    def close(self) -> None:
        """Forget what is in hand, and let go of Kafka."""
        self.drop()
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _place(entry: LedgerEntry) -> tuple[object, ...]:
    return entry.topic, entry.partition, entry.start


def _identity(entry: LedgerEntry) -> tuple[object, ...]:
    return entry.topic, entry.partition, entry.start, entry.symbols
