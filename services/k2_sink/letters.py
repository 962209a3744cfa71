"""Keeps the table `dlq`: the letters of the dead-letter topics, each place once, and what nobody could read in time.

Called by the sink's loop when there is time. It reads with a consumer of its own that joins no group, never waits for
Kafka, and changes the table `dlq` alone. What it has in hand may be dropped at any time: how far it went is in the
table, beside the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from pyiceberg import expressions
from pyiceberg.table import Table

from k2_core.errors import KafkaUnavailableError, StateError
from k2_core.kafka import KafkaAdmin, client_config
from k2_core.letters import DLQ, LETTERS, READ_KEY, Letter, Place, Read, letter_rows, removed_row
from k2_core.tables import answering
from k2_core.topics import dead_letter_topic
from k2_core.types import Level, Offset, Partition, TopicId, TopicName
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import Tables, Turns, write

PATIENCE_S: Final = 30.0
"""For letters that are there: longer than a broker's fail-over."""
_FETCH_BYTES: Final = 1024 * 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one commit brings at most: a fraction of a second in which nothing is read from the log.

    Args:
        letters: How many.
        size: Bytes of their values; one more letter may come on top.
    """

    letters: int = 5_000
    size: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """Where the letters are.

    Args:
        admin: Of their Kafka.
        topics: Those of the trades whose letters they are.
        group: One that may be named; it is never joined.
    """

    admin: KafkaAdmin
    topics: Collection[TopicName]
    group: str

    def bounds(self) -> dict[Place, Offset]:
        """Return the first offset of each partition that there is, and its end.

        Raises:
            KafkaUnavailableError: Kafka does not answer; it takes its time to say so.
            SetupError: The topics may not be looked at.
        """
        found: dict[Place, Offset] = {}
        names = [dead_letter_topic(topic) for topic in self.topics]
        for name, (topic_id, count) in sorted(self.admin.describe_topics(names).items()):
            numbers = [Partition(number) for number in range(count)]
            starts, ends = self.admin.log_starts(name, numbers), self.admin.stable_ends(name, numbers)
            found |= {Place(name, topic_id, number, starts[number]): ends[number] for number in numbers}
        return found

    def open(self, unread: Mapping[Place, Offset]) -> Reading:
        """Return a reading of what is unread."""
        return Reading(client_config(self.admin.settings, group_id=self.group), unread)


class Reading:
    """Letters on their way from Kafka.

    Args:
        config: Of the client.
        unread: Where to begin in each partition, and where it ended.
    """

    def __init__(self, config: Mapping[str, Any], unread: Mapping[Place, Offset]) -> None:
        self._topic_ids = {place.topic: place.topic_id for place in unread}
        self._ends = {(place.topic_id, place.partition): end for place, end in unread.items()}
        self.positions = {(place.topic_id, place.partition): place.offset for place in unread}
        self.letters: list[Letter] = []
        self.size = 0
        self._consumer = Consumer(
            {
                **config,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,  # a topic may end in offsets without a record
                "isolation.level": "read_committed",
                "fetch.message.max.bytes": _FETCH_BYTES,
                "queued.max.messages.kbytes": 8 * 1024,
            },
            logger=_log,
        )
        self._consumer.assign([TopicPartition(place.topic, place.partition, place.offset) for place in unread])

    @property
    def done(self) -> bool:
        """Whether all that was there is read."""
        return all(self.positions[at] >= end for at, end in self._ends.items())

    def read(self, most: int, timeout_s: float = 0.0) -> int:
        """Take what has come, and return how many letters that was.

        Raises:
            KafkaUnavailableError: Kafka says so in place of a letter, or has removed it meanwhile.
        """
        before = len(self.letters)
        for message in self._consumer.consume(most, timeout_s):
            self._take(message)
        return len(self.letters) - before

    def _take(self, message: Message) -> None:
        topic, partition = TopicName(message.topic() or ""), Partition(message.partition() or 0)
        offset, fault = Offset(message.offset() or 0), message.error()
        topic_id = self._topic_ids.get(topic, TopicId(""))
        if fault is None:
            value, place = message.value(), Place(topic, topic_id, partition, offset)
            self.letters.append(Letter(place, dict(message.headers() or ()), value, message.timestamp()[1]))
            self.size += len(value or b"")
            offset = Offset(offset + 1)
        elif fault.code() != KafkaError._PARTITION_EOF:
            raise KafkaUnavailableError(f"topic {topic} partition {partition}: found {fault.str()}, expected letters")
        self.positions[topic_id, partition] = max(offset, self.positions[topic_id, partition])

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()


@dataclass(slots=True)
class _Work:
    """What is in hand: the table as it was loaded, what it says, what is gone, what is read, and when any last came."""

    table: Table
    read: Read
    removed: list[pa.Table]
    reading: Reading
    since_s: float


class Letters:
    """Brings letters into the table, again and again.

    Args:
        tables: Where.
        asked: Where the letters are.
        metrics: Of the sink.
        turns: How often.
        limits: What bounds a commit.
    """

    def __init__(
        self, tables: Tables, asked: Asked, metrics: SinkMetrics, turns: Turns, limits: Limits = Limits()
    ) -> None:
        self._tables = tables
        self._asked = asked
        self._metrics = metrics
        self._turns = turns
        self._limits = limits
        # Beside the loop, as an admin call waits: a Kafka that is away would keep a batch from being committed.
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="letters")
        self._bounds: Future[dict[Place, Offset]] | None = None
        self._work: _Work | None = None

    def step(self, level: Level) -> int:
        """Go on for a moment, without waiting, and return how many rows a commit brought.

        Raises:
            StateError: The table is not to be written to, or the brokers have lost letters.
            SetupError: The topics may not be read.
            RetryableError: Kafka, catalog or warehouse is away; it is tried again at the next time.
        """
        if level > Level.NORMAL:
            self._drop()
            return 0
        try:
            return self._go_on(level)
        except Exception:
            self._drop()
            raise

    def _go_on(self, level: Level) -> int:
        if self._work is not None:
            return self._read(self._work)
        if self._bounds is not None:
            if self._bounds.done():
                bounds, self._bounds = self._bounds.result(), None
                self._begin(bounds)
        elif self._turns.due(level):
            self._bounds = self._beside.submit(self._asked.bounds)
        return 0

    def _begin(self, bounds: Mapping[Place, Offset]) -> None:
        table = self._tables.projection(DLQ)
        read = Read.of(table.properties)
        unread, removed = unread_of(read, bounds)
        if unread:
            rows = [removed_row(place, end) for place, end in removed.items()]
            self._work = _Work(table, read, rows, self._asked.open(unread), self._turns.clock())

    def _read(self, work: _Work) -> int:
        reading = work.reading
        if reading.read(max(1, self._limits.letters - len(reading.letters))):
            work.since_s = self._turns.clock()
        full = len(reading.letters) >= self._limits.letters or reading.size >= self._limits.size
        if not (reading.done or full):
            if self._turns.clock() - work.since_s > PATIENCE_S:
                raise KafkaUnavailableError(f"dead letters: found none in {PATIENCE_S:.0f} s, expected some to be read")
            return 0
        self._drop()
        with self._metrics.stage("letters"):
            rows = new_rows(work.table, pa.concat_tables([*work.removed, letter_rows(reading.letters)]))
        reached = Read({**work.read.positions, **reading.positions})
        if not write(work.table, rows, {READ_KEY: reached.dump()}):
            return 0
        if not reading.done:
            self._turns.soon()
        self._metrics.projected.labels(DLQ.name).inc(rows.num_rows)
        _log.info("letters kept", extra={"letters": len(reading.letters), "rows": rows.num_rows})
        return len(rows)

    def _drop(self) -> None:
        work, self._work, self._bounds = self._work, None, None
        if work is not None:
            work.reading.close()

    def close(self) -> None:
        """Forget what is in hand, and let go of Kafka."""
        self._drop()
        self._beside.shutdown(wait=False, cancel_futures=True)


def unread_of(read: Read, bounds: Mapping[Place, Offset]) -> tuple[dict[Place, Offset], dict[Place, Offset]]:
    """Return what is to be read, and what is gone that never was, each as where it begins and ends.

    Where something is gone there is something to read, even if that is nothing: the position moves past it.

    Args:
        read: How far the topics were read.
        bounds: The first offset of each partition, and its end.

    Raises:
        StateError: A topic ends before where it was read to.
    """
    unread: dict[Place, Offset] = {}
    removed: dict[Place, Offset] = {}
    for start, end in bounds.items():
        position = read.positions.get((start.topic_id, start.partition), Offset(0))
        if end < position:
            raise StateError(
                f"topic {start.topic} partition {start.partition}: found an end of {end}, expected at least {position} "
                "where it was read to. The brokers lost letters: delete the topic, and its next letters are read anew"
            )
        if position < start.offset:
            removed[Place(start.topic, start.topic_id, start.partition, position)] = start.offset
        begin = max(position, start.offset)
        if begin < end or begin > position:
            unread[Place(start.topic, start.topic_id, start.partition, begin)] = end
    return unread, removed


def new_rows(table: Table, rows: pa.Table) -> pa.Table:
    """Return those rows whose place is not in the table yet, the first of each place.

    Raises:
        RetryableError: Catalog or warehouse is away.
    """
    firsts: dict[str, int] = {}
    for number, letter_id in enumerate(rows.column("letter_id").to_pylist()):
        firsts.setdefault(letter_id, number)
    rows = rows.take(list(firsts.values()))
    near = _near(rows)
    if near is None or table.current_snapshot() is None:
        return rows
    with answering(table.location(), table.io.properties):
        known = table.scan(row_filter=near, selected_fields=("letter_id",)).to_arrow().column("letter_id")
    held = pc.is_in(rows.column("letter_id"), value_set=known.combine_chunks().cast(pa.string()))
    return rows.filter(pc.invert(held)).cast(LETTERS)


def _near(rows: pa.Table) -> Any:
    """Return what finds rows of the same places by the bounds of files; None where no place can be in the table."""
    found = None
    for key, number in (("topic_id", "kafka_offset"), ("digest", "row")):
        known = rows.filter(pc.and_(pc.is_valid(rows.column(key)), pc.is_valid(rows.column(number))))
        if known.num_rows:
            bounds = pc.min_max(known.column(number)).as_py()
            near = _between(key, pc.unique(known.column(key)).to_pylist(), number, bounds)
            found = near if found is None else expressions.Or(found, near)
    return found


def _between(key: str, keys: Sequence[str], number: str, bounds: Mapping[str, int]) -> Any:
    build: Any = expressions  # their pydantic models hide the constructors from the type checker
    return build.And(
        build.In(key, keys),
        build.GreaterThanOrEqual(number, bounds["min"]),
        build.LessThanOrEqual(number, bounds["max"]),
    )
