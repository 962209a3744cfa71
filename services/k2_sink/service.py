"""The sink's loop: read, decode, commit an interval's worth, and hand partitions over without losing or doubling a row.

At each step it acts on the level of degradation: it defers by key, stands still, or pays back what was deferred.

One thread does everything in turn; librdkafka fetches ahead in its own. What fails and may heal is tried again with the
batch held; what forbids going on ends the process with the way out in its last line.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Final

import pyarrow.compute as pc
from pyiceberg.table import Table

from k2_core.codec import BatchDecoder
from k2_core.errors import RetryableError, SetupError
from k2_core.raw_files import RawFiles
from k2_core.records import TRADES
from k2_core.state import owed_records
from k2_core.types import Level, Offset
from k2_sink.batch import Batch, Chunk
from k2_sink.commit import Committed
from k2_sink.consumer import OFFSETS_EVERY_S, LogReader, Ownership
from k2_sink.deadletters import DeadLetterProducer
from k2_sink.deadline import Deadline
from k2_sink.dedup import SeenIds
from k2_sink.deferral import Deferring, KeyClasses, defers_by_key
from k2_sink.drain import Taken
from k2_sink.history import find_rows, held_ids
from k2_sink.interval import CommitInterval
from k2_sink.landing import Landing, Written
from k2_sink.owed import open_drain
from k2_sink.parts import Parts
from k2_sink.precedence import Precedence
from k2_sink.protocol import Claim, Fenced, LogPartition, Superseded, repayment, starting_positions
from k2_sink.signals import CommitSignals
from k2_sink.source import Source
from k2_sink.upkeep import open_upkeep

READ_TIMEOUT_S: Final = 0.1
REREAD_AFTER_S: Final = 1.0
RETAKE_AFTER_S: Final = 0.25
TAKE_TIMEOUT_S: Final = 60.0
"""How long a catalog may be away while partitions are taken over, before the process ends to be started again."""
IDLE_LOOK_S: Final = 5.0
"""How often a sink without records looks at the table: after a rollback it has to read again what it had read."""
_MAX_BACKOFF_S: Final = 10.0
FAILING_AFTER_S: Final = 1.0
"""Of a wait between attempts, which doubles: what a moment heals is not told as failing."""
LAST_SIGNAL_S: Final = 5.0
"""For the last commit's signal to be written at the end: who waits for lag 0 would wait for ever without it."""

_log = logging.getLogger(__name__)


class Sink:
    """Takes a pipeline's trades topics into its trades table.

    Args:
        parts: What it works with.
        clock: Monotonic seconds.
        utc_s: Seconds since 1970.
    """

    def __init__(
        self, parts: Parts, clock: Callable[[], float] = time.monotonic, utc_s: Callable[[], float] = time.time
    ) -> None:
        self._parts = parts
        self._clock, self._utc_s = clock, utc_s
        self._spec = parts.pipeline.spec.sink
        self._cluster_id = parts.admin.cluster_id()
        self._epoch, self._look_at = 0, 0.0
        self._source = Source.open(parts.admin, parts.pipeline.trades_topics())
        self._topic_ids, self._level = self._source.topic_ids, Level.NORMAL
        self._classes, self._precedence = KeyClasses(parts.priorities), Precedence(clock)
        raw = RawFiles(parts.writer.table.io, parts.writer.table.location())
        self.drain = open_drain(parts, self._source, raw, clock, utc_s)
        self._upkeep = open_upkeep(parts, raw, clock, utc_s)
        self._landing = Landing(parts.writer, raw, self._spec.compression_level, parts.metrics, parts.heart, utc_s)
        self._decoder = BatchDecoder(TRADES, parts.schemas.by_id)
        self._dead_letters = DeadLetterProducer(parts.settings, self._topic_ids)
        self._seen = SeenIds()
        self._batch = Batch(TRADES, self._seen)
        self._table: Table = parts.writer.table
        self._interval = CommitInterval(self._spec, parts.commit_interval_s, clock)
        self.trouble: str | None = None
        """What keeps the current batch from being committed, for `/health`; None when all is well."""
        self._signals = CommitSignals(parts.admin, parts.pipeline.committed_group)
        ownership = Ownership(self._take, self._give_up, self._lose)
        self._reader = LogReader(parts.settings, parts.pipeline.sink_group, list(self._topic_ids), ownership)

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
            self._read_to_end()
        finally:
            for one in (self.drain, self._upkeep, self._reader):
                one.close()
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
            self._pay_back()
            self._upkeep.step(self._level)

    def _act_on(self, level: Level) -> Deferring | None:
        """Take up a level, and return what is to be deferred at it."""
        if level is not self._level:
            _log.warning("level changed", extra={"from_level": int(self._level), "to_level": int(level)})
            self._level = level
            self._parts.metrics.level.set(level)
        positions, more = self._batch.positions(), self._reader.full
        behind = self._precedence.held(level, self._batch.waits(level), self._reader.unread(positions), more=more)
        self._reader.hold(None if level is Level.CIRCUIT_BREAK else behind, positions)
        raw = self._source.forgets_within(self._parts.raw_below_h)
        return Deferring(level, self._classes, self._now_ms(), raw) if defers_by_key(level) else None

    def _now_ms(self) -> int:
        return int(self._utc_s() * 1000)

    def _step(self, stop: Event | Deadline) -> None:
        self._parts.heart.beat()
        deferring = self._act_on(self._parts.level())
        room, raw = self._spec.commit_records - self._batch.held, deferring is not None and deferring.raw
        with self._parts.metrics.stage("consume"), self._parts.telling.reading():
            read = self._reader.read(room, READ_TIMEOUT_S, keys=deferring is not None, times=raw)
        for chunk in read.chunks:
            before = self._batch.deferred
            self._add(self._batch, chunk, deferring)
            self._parts.metrics.records_read.inc(len(chunk.values))
            self._parts.telling.read(len(chunk.values), self._batch.deferred - before)
        for at, end in read.ends.items():
            if self._batch.position(at) is not None:
                self._batch.pass_to(at, end)
        self._interval.note(empty=self._batch.empty)
        self._tell()
        unread = self._reader.unread(positions := self._batch.positions())
        self._source.size.look({at: positions[at] + one for at, one in unread.items()}, self._reader.record_bytes)
        self._parts.metrics.show(self._batch, unread, self.drain.stuck, self._now_ms())
        if self._interval.due(self._batch.held):
            self._interval.close()
            self._commit(stop)
        elif self._interval.idle:
            self._look_for_recovery()

    def _tell(self) -> None:
        telling, batch, later, size = self._parts.telling, self._batch, self._precedence.later, self._source.size
        self._reader.write_offsets(batch.positions(), lambda: telling.report(batch.ledger(), later, size))

    def _add(self, batch: Batch, chunk: Chunk, deferring: Deferring | None = None) -> None:
        with self._parts.metrics.stage("decode"):
            find, topic_id = partial(find_rows, self._table), self._topic_ids[chunk.topic]
            letters = batch.add(chunk, self._decoder, topic_id, find, deferring)
        self._dead_letters.send(letters)
        for letter in letters:
            self._parts.metrics.dead_letters.labels(letter.reason).inc()

    def _pay_back(self) -> None:
        """Read on in what is owed, and commit it once that is enough; a fault of this keeps nothing else from going on.

        No batch is in hand at the commit: ids that are on their way would not be in the table to be compared with.
        """
        try:
            drained = self.drain.step(self._batch.ledger(), self._level, self._interval.seconds)
            if drained and self._batch.empty:
                self._pay(drained)
        except RetryableError as error:
            _log.error("drain: will be tried again", extra={"error": str(error)})
            self.drain.rest()

    def _pay(self, drained: Sequence[Taken]) -> None:
        self._parts.heart.beat()
        batch_id, batch = uuid.uuid4().hex, Batch(TRADES, self._seen)
        files: Written | None = None
        try:
            for one in drained:
                batch.begin_at((one.entry.topic, one.entry.partition), one.entry.start)
                for chunk in one.chunks:
                    self._add(batch, chunk)
            files = self._landing.write(batch, batch_id)
            self._dead_letters.flush()
            claim = repayment(self._claim(self._batch, batch_id), batch.spans(), [one.paid() for one in drained])
            with self._parts.metrics.stage("commit"):
                verdict = self._parts.writer.commit(claim, files.data)
        except RetryableError:
            self._landing.remove(files, batch_id)
            self._begin(self._batch)
            raise
        self.drain.drop()
        if isinstance(verdict, Committed):
            self._parts.metrics.drained.inc(sum(one.records for one in drained))
            self._landed("drained", batch, verdict)
            self._begin(self._batch.following(verdict.state))
        else:
            self._landing.remove(files, batch_id)
            _log.warning("another writer has changed the table: drain dropped", extra={"rows": batch.rows})
            self._take_again()

    def _look_for_recovery(self) -> None:
        """Notice a recovery of the table while there is nothing to commit that would run into it."""
        if (now := self._clock()) >= self._look_at and self._batch.positions():
            self._look_at = now + max(IDLE_LOOK_S, self._interval.seconds)
            self._table, state = self._parts.writer.load()
            if state.epoch != self._epoch:
                self._dropped(Fenced(state.epoch), "", None)

    def _at_end(self) -> bool:
        if not (positions := self._batch.positions()) or self.drain.due(self._batch.ledger(), self._level):
            return False
        return not self._batch.before(self._source.stable_ends(positions))

    def _read_to_end(self) -> None:
        """Read on to where the log ended when this was asked, for as long as the settings allow, and commit."""
        expired = Deadline(self._clock() + self._parts.settings.sink_drain_timeout_s, self._clock)
        ends: Mapping[LogPartition, Offset] | None = None
        while not (expired.is_set() or self._level is Level.CIRCUIT_BREAK):
            try:
                ends = ends or self._source.stable_ends(self._batch.positions())
                if not self._batch.before(ends):
                    break
                self._step(expired)
            except RetryableError as error:
                _log.warning("last read: will be tried again", extra={"error": str(error)})
                self._reader.seek(self._batch.positions())
                expired.wait(RETAKE_AFTER_S)
        self._commit(expired)

    def _commit(self, stop: Event | Deadline) -> None:
        """Commit the batch, trying for as long as it takes; a stop gives it up unless it is about to be in."""
        backoff_s = 0.25
        files: Written | None = None
        batch_id = uuid.uuid4().hex
        while not self._batch.empty:
            self._parts.heart.beat()
            try:
                files = self._landing.write(self._batch, batch_id, files)
                self._dead_letters.flush()
                self._finish(batch_id, files)
            except RetryableError as error:
                self.trouble = str(error)
                _log.error("commit: will be tried again", extra={"error": str(error), "retry_s": backoff_s})
                if self._rest(stop, backoff_s):
                    return
                backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
            else:
                self.trouble = None
                return

    def _rest(self, stop: Event | Deadline, seconds: float) -> bool:
        """Wait between two attempts at a commit, acting on levels and telling meanwhile; returns whether to give up."""
        telling, until_s = self._parts.telling, self._clock() + seconds
        telling.failing = telling.failing or seconds >= FAILING_AFTER_S
        while not stop.is_set() and (left_s := until_s - self._clock()) > 0:
            self._act_on(self._parts.level())
            self._tell()
            stop.wait(min(left_s, OFFSETS_EVERY_S))
        return stop.is_set()

    def _finish(self, batch_id: str, files: Written) -> None:
        started = self._clock()
        with self._parts.metrics.stage("commit"):
            verdict = self._parts.writer.commit(self._claim(self._batch, batch_id), files.data)
        self._parts.telling.committed(commit_s := self._clock() - started)
        self._parts.metrics.commit_seconds.observe(commit_s)
        if isinstance(verdict, Committed):
            self._committed(verdict, commit_s)
        else:
            self._dropped(verdict, batch_id, files)
        self._interval.took(commit_s)

    def _claim(self, batch: Batch, batch_id: str) -> Claim:
        spans, ids = batch.spans(), self._topic_ids
        return Claim(self._cluster_id, {name: ids[name] for name, _ in spans}, spans, batch_id, self._epoch)

    def _committed(self, verdict: Committed, commit_s: float) -> None:
        self._landed("committed", batch := self._batch, verdict, commit_s=round(commit_s, 4))
        self._parts.metrics.deferred.inc(batch.deferred)
        if (newest := pc.max(batch.table().column("event_time")).as_py()) is not None:
            self._parts.metrics.newest.set(newest.timestamp())
        self._signals.tell(batch.positions(), newest)
        self._begin(batch.following(verdict.state))

    def _landed(self, outcome: str, batch: Batch, verdict: Committed, **said: float) -> None:
        self._table = self._parts.writer.table
        self._seen.confirm()
        self._parts.telling.failing = False
        metrics = self._parts.metrics
        metrics.commits.labels(outcome).inc()
        metrics.rows_committed.inc(batch.rows)
        metrics.duplicates.inc(sum(span.duplicates for span in batch.spans().values()))
        _log.info(outcome, extra={"rows": batch.rows, "owed": owed_records(verdict.state.open_ledger), **said})

    def _dropped(self, verdict: Superseded | Fenced, batch_id: str, files: Written | None) -> None:
        """Another writer, or a person, has changed the table under the batch: read on from where it stands now."""
        recovered = isinstance(verdict, Fenced)
        self._parts.metrics.commits.labels("fenced" if recovered else "superseded").inc()
        why = "the table was recovered" if recovered else "another sink was faster"
        _log.warning(f"{why}: batch dropped", extra={"rows": self._batch.rows})
        self._landing.remove(files, batch_id)
        if isinstance(verdict, Fenced):
            self._take_again()
        else:
            self._remember()
            self._begin(Batch(TRADES, self._seen))
            self._start_at(verdict.positions)
            self._reader.seek(verdict.positions)

    def _take_again(self) -> None:
        """Take everything that is owned over anew, as if it had been assigned just now."""
        owned = list(self._batch.positions())
        self._begin(Batch(TRADES, self._seen))
        try:
            self._reader.seek(self._take_once(owned))
        except RetryableError as error:
            raise SetupError(f"partitions could not be taken over after a recovery: {error}") from error

    def _begin(self, batch: Batch) -> None:
        """Go on with an empty batch; whatever was on its way is in the table or dropped."""
        self._seen.drop_pending()
        self._dead_letters.drop()
        self._batch = batch
        self._interval.begin()

    def _start_at(self, positions: Mapping[LogPartition, Offset]) -> None:
        """Begin partitions in the batch where the table stood when it was loaded last."""
        for at, position in positions.items():
            self._batch.start_at(at, position, self._parts.writer.state.deferred(*at))

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
        starts, ends = self._source.log_starts(partitions), self._source.stable_ends(partitions)
        positions = starting_positions(state, self._topic_ids, starts, ends)
        if not self._batch.positions():  # else what is owned already keeps its epoch, and is fenced if that is over
            self._epoch = state.epoch
        self._remember()
        self._start_at(positions)
        if (head := table.current_snapshot()) is not None:  # the last owner's signal may have died with it
            self._signals.tell(positions, None, datetime.fromtimestamp(head.timestamp_ms / 1000, tz=UTC))
        _log.info("partitions taken", extra={"partitions": len(partitions)})
        return positions

    def _give_up(self, partitions: list[LogPartition]) -> None:
        """Commit what was read, once and without waiting; if that fails the next owner reads it again."""
        self._commit(Deadline(self._clock(), self._clock))
        self._lose(partitions)

    def _lose(self, partitions: list[LogPartition]) -> None:
        """Drop the batch; what stays owned is read again from where the table stands."""
        _log.info("partitions given up", extra={"partitions": len(partitions)})
        dirty = not self._batch.empty
        self._begin(self._batch.restarted(self._batch.positions().keys() - set(partitions)))
        if dirty and (kept := self._batch.positions()):
            self._reader.seek(kept)
