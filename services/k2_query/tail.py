"""The thread that follows the log's end and keeps it in the tail store.

One consumer, all partitions of the pipeline's topics, no group: it commits nothing and nobody balances it. It starts at
the positions of the lake's newest snapshot, skips ahead when a commit overtakes it, and begins again when the topic was
made anew or the log no longer has its position. Records that the codec refuses are skipped; the sink has them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from k2_core.codec import BatchDecoder
from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError, RetryableError
from k2_core.kafka import client_config
from k2_core.types import Offset, TopicId, TopicName
from k2_query.boundary import LogBounds, LogPartition
from k2_query.log_batches import decode
from k2_query.log_watch import LogWatch
from k2_query.metrics import QueryMetrics
from k2_query.segments import TailStore

POLL_RECORDS: Final = 10_000
LINGER_S: Final = 0.05
"""After the first record of a poll, to take its neighbours along, unless a query waits for them: no answer is older
for it. A poll costs 1 to 2 ms however little it brings, so this bounds a slow feed's cost to a few percent of a core.
"""
IDLE_S: Final = 0.1
RETRY_S: Final = 0.5
COMPARE_S: Final = 0.2
"""How often the tail looks whether the lake has overtaken it or was rolled back."""
SKIP_AHEAD_RECORDS: Final = 50_000
"""Reading this far takes about 0.2 s; to begin again at the lake's position pays beyond."""

Positions = Callable[[LogBounds], Mapping[LogPartition, Offset]]
"""Where the lake's newest snapshot ends; a partition that it does not know is left out."""

_log = logging.getLogger(__name__)


@dataclass
class Tail:
    """Follows the log.

    Args:
        settings: Where Kafka is.
        store: Where rows go.
        watch: The log's bounds and ids.
        positions: See `Positions`.
        decoder: Of the record type.
        metrics: Figures of the tail.
    """

    settings: ServiceSettings
    store: TailStore
    watch: LogWatch
    positions: Positions
    decoder: BatchDecoder
    metrics: QueryMetrics

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._slot_of: dict[LogPartition, int] = {}
        self._polled_at = self._compared_at = time.monotonic()
        self._problem: str | None = "the tail has not started"
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and close its consumer."""
        self._stopping.set()
        self._thread.join()

    @property
    def problem(self) -> str | None:
        """What keeps the tail from following, or None."""
        return self._problem if self._thread.is_alive() else "the tail's thread is not running"

    @property
    def silent_s(self) -> float:
        """Seconds since the thread last asked its consumer: grows only if it hangs."""
        return time.monotonic() - self._polled_at

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except (RetryableError, KafkaException) as error:  # policy: the tail begins again until it is stopped
                self._note(str(error))
                self._stopping.wait(RETRY_S)

    def _note(self, problem: str | None) -> None:
        if problem != self._problem:
            _log.log(logging.WARNING if problem else logging.INFO, "tail: %s", problem or "follows the log")
        self._problem = problem

    def _follow(self) -> None:
        sighting = self.watch.ask(timeout_s=RETRY_S)
        self._polled_at = time.monotonic()
        if sighting is None:
            raise KafkaUnavailableError(self.watch.problem or "found no answer from Kafka in time, expected the ends")
        if not sighting.bounds.topics:  # nothing is wrong: whoever ingests makes them
            self._note(None)
            self._stopping.wait(RETRY_S)
            return
        ids = {name: topic.id for name, topic in sighting.bounds.topics.items()}
        starts = self._starts(sighting.bounds)
        self.store.restart(starts, ids)
        self._slot_of = {at: self.store.slot(at) for at in starts}
        consumer = Consumer(_consumer_config(self.settings), logger=_log)
        try:
            consumer.assign([TopicPartition(at.topic, at.partition, start) for at, start in starts.items()])
            self._note(None)
            while not self._stopping.is_set() and self._same_log(ids, len(starts)):
                if not self._in_step():
                    return
                self._poll(consumer)
        finally:
            consumer.close()

    def _starts(self, bounds: LogBounds) -> dict[LogPartition, Offset]:
        committed = self.positions(bounds)
        starts = {}
        for name, topic in sorted(bounds.topics.items()):
            for partition, first in sorted(topic.starts.items()):
                at = LogPartition(name, partition)
                starts[at] = max(first, min(committed.get(at, first), topic.ends[partition]))
        return starts

    def _same_log(self, ids: Mapping[TopicName, TopicId], partitions: int) -> bool:
        latest = self.watch.latest
        if latest is None:
            return True
        topics = latest.bounds.topics
        found = {name: topic.id for name, topic in topics.items()}
        return found == dict(ids) and sum(len(topic.starts) for topic in topics.values()) == partitions

    def _poll(self, consumer: Consumer) -> None:
        first = consumer.poll(IDLE_S)
        self._polled_at = time.monotonic()
        if first is None:
            return
        self.store.linger(LINGER_S)
        self._take([first, *consumer.consume(POLL_RECORDS, 0)])

    def _take(self, messages: list[Message]) -> None:
        decoded = decode(messages, self._slot_of, self.decoder)
        self.store.append(decoded.rows, decoded.slots, decoded.offsets, decoded.ends)
        self.metrics.tail_rejected.inc(decoded.rejected)
        self._observe(decoded.rows)

    def _observe(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        now_us = int(datetime.now(UTC).timestamp() * 1e6)
        received = rows.column("receive_timestamp").cast(pa.int64()).to_numpy()
        self.metrics.freshness.observe((now_us - received) / 1e6)
        exchange = rows.column("exchange_timestamp").drop_null().cast(pa.int64()).to_numpy()
        ages = (now_us - exchange) / 1e6
        self.metrics.exchange_freshness.observe(ages[np.abs(ages) <= 60])

    def _in_step(self) -> bool:
        """Whether the store still begins where the lake ends: not overtaken by far, and not rolled back.

        The last sighting may be older than the lake's head. Its ends then lie before what was committed since, which is
        neither: to begin again for it would leave a query without the tail while that is read once more.
        """
        now = time.monotonic()
        latest = self.watch.latest
        if latest is None or now - self._compared_at < COMPARE_S:
            return True
        self._compared_at = now
        covered = self.store.covered()
        committed = self.positions(latest.bounds)
        for name, topic in latest.bounds.topics.items():
            for partition, first in topic.starts.items():
                at = LogPartition(name, partition)
                wanted = max(first, committed.get(at, first))
                start, position = covered.get(at, (wanted, wanted))
                if wanted < start or min(wanted, topic.ends[partition]) > position + SKIP_AHEAD_RECORDS:
                    return False
        return True


def _consumer_config(settings: ServiceSettings) -> dict[str, object]:
    return client_config(
        settings,
        group_id="k2-query-tail",  # required by the client; nothing is ever committed under it
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        enable_partition_eof=True,
        isolation_level="read_committed",
        auto_offset_reset="error",
        fetch_queue_backoff_ms=5,
        fetch_wait_max_ms=50,
        fetch_error_backoff_ms=50,
    )
