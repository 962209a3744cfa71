"""The sink's loop: read, decode, commit an interval's worth, and hand partitions over without losing or doubling a row.

One thread does everything in turn; librdkafka fetches ahead in its own. Whatever fails and may heal is tried again with
the batch held; whatever forbids going on ends the process with the way out in its last line.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_core.codec import BatchDecoder
from k2_core.errors import RetryableError, SetupError
from k2_core.health import Heartbeat
from k2_core.kafka import KafkaAdmin
from k2_core.records import TRADES
from k2_core.schemas import SchemaSource
from k2_core.spec import Pipeline
from k2_core.topics import DEAD_LETTER_PARTITIONS, dead_letter_topic
from k2_core.types import Offset, TopicId, TopicName
from k2_sink.batch import Batch
from k2_sink.commit import Committed, TableWriter
from k2_sink.consumer import LogReader, Ownership
from k2_sink.deadletters import DeadLetterProducer
from k2_sink.dedup import SeenIds
from k2_sink.files import FileWriter, sort_rows
from k2_sink.history import find_rows, held_ids
from k2_sink.metrics import SinkMetrics
from k2_sink.protocol import Claim, Fenced, LogPartition, Superseded, starting_positions
from k2_sink.settings import SinkSettings
from k2_sink.signals import CommitSignals

READ_TIMEOUT_S: Final = 0.1
REREAD_AFTER_S: Final = 1.0
RETAKE_AFTER_S: Final = 0.25
TAKE_TIMEOUT_S: Final = 60.0
"""How long a catalog may be away while partitions are taken over, before the process ends to be started again."""
FIRST_INTERVAL_S: Final = 1.0
"""The first commit of a process is early, so that a catalog or warehouse that refuses shows at once."""
COMMIT_TIMES_PER_INTERVAL: Final = 2
"""Sinks take turns at one table: an interval holds twice as many commits as there are sinks, so that none starves."""
IDLE_LOOK_S: Final = 5.0
"""How often a sink without records looks at the table: after a rollback it has to read again what it had read."""
_MAX_BACKOFF_S: Final = 10.0
LAST_SIGNAL_S: Final = 5.0
"""For the last commit's signal to be written at the end: who waits for lag 0 would wait for ever without it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the sink works with, each made by `__main__` or by a test."""

    settings: SinkSettings
    pipeline: Pipeline
    schemas: SchemaSource
    admin: KafkaAdmin
    writer: TableWriter
    metrics: SinkMetrics
    heart: Heartbeat = field(default_factory=Heartbeat)


class Sink:
    """Takes a pipeline's trades topics into its trades table.

    Args:
        parts: What it works with.
        clock: Monotonic seconds.
    """

    def __init__(self, parts: Parts, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._clock = clock
        self._spec = parts.pipeline.spec.sink
        self._cluster_id = parts.admin.cluster_id()
        self._epoch = 0
        self._look_at = 0.0
        self._topic_ids = self._ensure_topics()
        self._decoder = BatchDecoder(TRADES, parts.schemas.by_id)
        self._dead_letters = DeadLetterProducer(parts.settings)
        self._seen = SeenIds()
        self._batch = Batch(TRADES, self._seen)
        self._table: Table = parts.writer.table
        self._first_record_at: float | None = None
        self._interval_s = min(FIRST_INTERVAL_S, self._spec.commit_interval_seconds)
        self._commit_s = 0.0
        self.trouble: str | None = None
        """What keeps the current batch from being committed, for `/health`; None when all is well."""
        self._signals = CommitSignals(parts.admin, parts.pipeline.committed_group)
        ownership = Ownership(self._take, self._give_up, self._lose)
        self._reader = LogReader(parts.settings, parts.pipeline.sink_group, list(self._topic_ids), ownership)

    def _ensure_topics(self) -> dict[TopicName, TopicId]:
        wanted = self._parts.pipeline.trades_topics()
        letters = {dead_letter_topic(topic): DEAD_LETTER_PARTITIONS for topic in wanted}
        self._parts.admin.ensure_topics(wanted | letters)
        return {name: topic_id for name, (topic_id, _) in self._parts.admin.describe_topics(wanted).items()}

    def run(self, stop: Event) -> None:
        """Work until told to stop, then read on to the end of the log, commit and leave the group.

        Raises:
            StateError: The table or the log forbids going on.
        """
        try:
            while not stop.is_set():
                self._step_or_reread(stop)
                if self._parts.settings.sink_stop_at_end and self._at_end():
                    break
            self._drain()
        finally:
            self._reader.close()
            self._signals.flush(LAST_SIGNAL_S)

    def _step_or_reread(self, stop: Event) -> None:
        """Do a step; if something it needs is away, wait a little and read on from where the batch stands.

        Without the seek, what the failed step had fetched would be missing, and look like markers.
        """
        try:
            self._step(stop)
        except RetryableError as error:
            self.trouble = str(error)
            _log.error("read: will be tried again", extra={"error": str(error)})
            stop.wait(REREAD_AFTER_S)
            self._reader.seek(self._batch.positions())
        else:
            self.trouble = None

    def _step(self, stop: Event | _Deadline) -> None:
        self._parts.heart.beat()
        room = self._spec.commit_records - self._batch.rows
        with self._parts.metrics.stage("consume"):
            read = self._reader.read(room, READ_TIMEOUT_S)
        for chunk in read.chunks:
            with self._parts.metrics.stage("decode"):
                topic_id = self._topic_ids[chunk.topic]
                letters = self._batch.add(chunk, self._decoder, topic_id, self._find_held)
            self._dead_letters.send(letters)
            self._parts.metrics.records_read.inc(len(chunk.values))
            for letter in letters:
                self._parts.metrics.dead_letters.labels(letter.reason).inc()
        for at, end in read.ends.items():
            if self._batch.position(at) is not None:
                self._batch.pass_to(at, end)
        if self._first_record_at is None and not self._batch.empty:
            self._first_record_at = self._clock()
        self._reader.write_offsets(self._batch.positions())
        self._observe()
        if self._due():
            self._commit(stop)
        elif self._first_record_at is None:
            self._look_for_recovery()

    def _look_for_recovery(self) -> None:
        """Notice a recovery of the table while there is nothing to commit that would run into it."""
        if (now := self._clock()) >= self._look_at and self._batch.positions():
            self._look_at = now + max(IDLE_LOOK_S, self._interval_s)
            epoch = self._parts.writer.load()[1].epoch
            if epoch != self._epoch:
                self._dropped(Fenced(epoch), "", [])

    def _due(self) -> bool:
        if self._first_record_at is None:
            return False
        waited = self._clock() - self._first_record_at
        return waited >= self._interval_s or self._batch.rows >= self._spec.commit_records

    def _find_held(self, suspects: pa.Table) -> pa.Table:
        return find_rows(self._table, suspects)

    def _at_end(self) -> bool:
        positions = self._batch.positions()
        return bool(positions) and all(positions[at] >= end for at, end in self._stable_ends(positions).items())

    def _drain(self) -> None:
        """Read on to where the log ended when this was asked, for as long as the settings allow, and commit."""
        expired = _Deadline(self._clock() + self._parts.settings.sink_drain_timeout_s, self._clock)
        ends: Mapping[LogPartition, Offset] | None = None
        while not expired.is_set() and (ends is None or self._before(ends)):
            try:
                ends = ends or self._stable_ends(self._batch.positions())
                if self._before(ends):
                    self._step(expired)
            except RetryableError as error:
                _log.warning("drain: will be tried again", extra={"error": str(error)})
                self._reader.seek(self._batch.positions())
                expired.wait(RETAKE_AFTER_S)
        self._commit(expired)

    def _before(self, ends: Mapping[LogPartition, Offset]) -> bool:
        """Return whether a partition that is still owned has not been read to its end."""
        positions = self._batch.positions()
        return any(positions[at] < end for at, end in ends.items() if at in positions)

    def _stable_ends(self, owned: Mapping[LogPartition, Offset]) -> dict[LogPartition, Offset]:
        ends: dict[LogPartition, Offset] = {}
        for topic in self._topic_ids:
            partitions = [partition for name, partition in owned if name == topic]
            ends |= {(topic, at): end for at, end in self._parts.admin.stable_ends(topic, partitions).items()}
        return ends

    def _commit(self, stop: Event | _Deadline) -> None:
        """Commit the batch, trying for as long as it takes; a stop gives it up unless it is about to be in."""
        backoff_s = 0.25
        files: list[DataFile] | None = None
        batch_id = uuid.uuid4().hex
        while not self._batch.empty:
            self._parts.heart.beat()
            try:
                if files is None:
                    files = self._write(batch_id)
                self._dead_letters.flush()
                self._finish(batch_id, files)
            except RetryableError as error:
                self.trouble = str(error)
                _log.error("commit: will be tried again", extra={"error": str(error), "retry_s": backoff_s})
                if stop.wait(backoff_s):
                    return
                backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
            else:
                self.trouble = None
                return

    def _write(self, batch_id: str) -> list[DataFile]:
        with self._parts.metrics.stage("sort"):
            groups = list(sort_rows(self._batch.table()))
        writer = FileWriter(self._parts.writer.table, self._spec.compression_level)
        files: list[DataFile] = []
        try:
            with self._parts.metrics.stage("write"):
                for number, group in enumerate(groups):
                    self._parts.heart.beat()
                    files.append(writer.write(group, f"{batch_id}-{number:04d}"))
        except RetryableError:
            writer.delete([file.file_path for file in files])
            raise
        return files

    def _finish(self, batch_id: str, files: list[DataFile]) -> None:
        started = self._clock()
        spans = self._batch.spans()
        topics = {topic for topic, _ in spans}
        ids = {name: self._topic_ids[name] for name in topics}
        claim = Claim(self._cluster_id, ids, spans, batch_id, self._epoch)
        with self._parts.metrics.stage("commit"):
            verdict = self._parts.writer.commit(claim, files)
        self._commit_s = self._clock() - started
        self._parts.metrics.commit_seconds.observe(self._commit_s)
        if isinstance(verdict, Committed):
            self._committed()
        else:
            self._dropped(verdict, batch_id, files)
        slowest = COMMIT_TIMES_PER_INTERVAL * self._spec.replicas * self._commit_s
        self._interval_s = max(self._spec.commit_interval_seconds, slowest)

    def _committed(self) -> None:
        metrics, batch = self._parts.metrics, self._batch
        self._table = self._parts.writer.table
        self._seen.confirm()
        metrics.commits.labels("committed").inc()
        metrics.rows_committed.inc(batch.rows)
        metrics.duplicates.inc(sum(span.duplicates for span in batch.spans().values()))
        newest = pc.max(batch.table().column("event_time")).as_py()
        if newest is not None:
            metrics.newest.set(newest.timestamp())
        _log.info("committed", extra={"rows": batch.rows, "commit_s": round(self._commit_s, 4)})
        positions = batch.positions()
        self._signals.tell(positions, newest)
        self._begin(positions)

    def _dropped(self, verdict: Superseded | Fenced, batch_id: str, files: list[DataFile]) -> None:
        """Another writer, or a person, has changed the table under the batch: read on from where it stands now."""
        recovered = isinstance(verdict, Fenced)
        self._parts.metrics.commits.labels("fenced" if recovered else "superseded").inc()
        why = "the table was recovered" if recovered else "another sink was faster"
        _log.warning(f"{why}: batch dropped", extra={"rows": self._batch.rows})
        if not self._parts.writer.may_hold(batch_id):
            paths = [file.file_path for file in files]
            FileWriter(self._parts.writer.table, self._spec.compression_level).delete(paths)
        if isinstance(verdict, Fenced):
            self._take_again()
        else:
            self._remember()
            self._begin(verdict.positions)
            self._reader.seek(verdict.positions)

    def _take_again(self) -> None:
        """Take everything that is owned over anew, as if it had been assigned just now."""
        owned = list(self._batch.positions())
        self._begin({})
        try:
            self._reader.seek(self._take_once(owned))
        except RetryableError as error:
            raise SetupError(f"partitions could not be taken over after a recovery: {error}") from error

    def _begin(self, positions: Mapping[LogPartition, Offset]) -> None:
        self._seen.drop_pending()
        self._dead_letters.drop()
        self._batch = Batch(TRADES, self._seen)
        for at, position in positions.items():
            self._batch.start_at(at, position)
        self._first_record_at = None

    def _remember(self) -> None:
        """Learn from the table which ids it holds, at the head that was loaded last."""
        self._table = self._parts.writer.table
        self._seen.committed = held_ids(self._table)

    def _take(self, partitions: list[LogPartition]) -> Mapping[LogPartition, Offset]:
        deadline = self._clock() + TAKE_TIMEOUT_S
        while True:
            self._parts.heart.beat()
            try:
                return self._take_once(partitions)
            except RetryableError as error:
                if self._clock() > deadline:
                    raise SetupError(
                        f"partitions could not be taken over in {TAKE_TIMEOUT_S:.0f} s: {error}"
                    ) from error
                _log.error("partitions: will be tried again", extra={"error": str(error)})
                time.sleep(RETAKE_AFTER_S)

    def _take_once(self, partitions: list[LogPartition]) -> Mapping[LogPartition, Offset]:
        table, state = self._parts.writer.load()
        starts: dict[LogPartition, Offset] = {}
        ends: dict[LogPartition, Offset] = {}
        for topic in {topic for topic, _ in partitions}:
            numbers = [number for name, number in partitions if name == topic]
            starts |= {(topic, at): start for at, start in self._parts.admin.log_starts(topic, numbers).items()}
            ends |= {(topic, at): end for at, end in self._parts.admin.stable_ends(topic, numbers).items()}
        positions = starting_positions(state, self._topic_ids, starts, ends)
        if not self._batch.positions():  # else what is owned already keeps its epoch, and is fenced if that is over
            self._epoch = state.epoch
        self._remember()
        for at, position in positions.items():
            self._batch.start_at(at, position)
        if (head := table.current_snapshot()) is not None:  # the last owner's signal may have died with it
            self._signals.tell(positions, None, datetime.fromtimestamp(head.timestamp_ms / 1000, tz=UTC))
        _log.info("partitions taken", extra={"partitions": len(partitions)})
        return positions

    def _give_up(self, partitions: list[LogPartition]) -> None:
        """Commit what was read, once and without waiting; if that fails the next owner reads it again."""
        self._commit(_Deadline(self._clock(), self._clock))
        self._lose(partitions)

    def _lose(self, partitions: list[LogPartition]) -> None:
        """Drop the batch; what stays owned is read again from where the table stands."""
        _log.info("partitions given up", extra={"partitions": len(partitions)})
        spans = self._batch.spans()
        kept = {at: span.start for at, span in spans.items() if at not in set(partitions)}
        dirty = not self._batch.empty
        self._begin(kept)
        if dirty and kept:
            self._reader.seek(kept)

    def _observe(self) -> None:
        metrics, positions = self._parts.metrics, self._batch.positions()
        ends = self._reader.known_ends(list(positions))
        metrics.partitions.set(len(positions))
        metrics.unread.set(sum(max(0, end - positions[at]) for at, end in ends.items()))
        metrics.uncommitted.set(self._batch.rows)


class _Deadline:
    """Stands in for a stop event where waiting is bounded by a moment: it is set when the moment has passed."""

    def __init__(self, deadline: float, clock: Callable[[], float]) -> None:
        self._deadline = deadline
        self._clock = clock

    def is_set(self) -> bool:
        """Return whether it is over."""
        return self._clock() >= self._deadline

    def wait(self, timeout_s: float) -> bool:
        """Wait, and return whether it is over."""
        left = self._deadline - self._clock()
        time.sleep(max(0.0, min(timeout_s, left)))
        return left <= timeout_s
