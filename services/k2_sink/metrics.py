"""The sink's figures for Prometheus, and where its time goes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from k2_core.errors import RawFileError
from k2_core.metrics import LATENCY_BUCKETS_S
from k2_core.raw_files import created_ms
from k2_core.state import owed_records
from k2_sink.batch import Batch
from k2_sink.books import BooksCollector
from k2_sink.protocol import LogPartition

RAW_FAULTS: Final = ("missing", "damaged")
_RAW_KEPT: Final = "Raw files that a listed snapshot's ledger leads to, at the last look, an hour ago at most"


class SinkMetrics:
    """What a sink exports. Counters count since the process began; gauges are of the last commit or look."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"k2_sink_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"k2_sink_{name}", text, registry=registry)

        self.records_read = counter("records_read_total", "Records taken from the log")
        self.rows_committed = counter("rows_committed_total", "Rows that a confirmed commit holds")
        self.duplicates = counter("duplicates_total", "Records left out because the table has their id")
        self.dead_letters = counter("dead_letters_total", "Records sent to the dead-letter topic", "reason")
        self.commits = counter("commits_total", "Batches by what became of them", "outcome")
        self.attempts = counter("commit_attempts_failed_total", "Attempts that did not clearly succeed", "kind")
        self.stage_seconds = counter("stage_seconds_total", "Wall time by stage of the work", "stage")
        self.stage_cpu_seconds = counter("stage_cpu_seconds_total", "The loop's CPU time by stage of the work", "stage")
        self.commit_seconds = Histogram(
            "k2_sink_commit_duration_seconds",
            "From the decision to commit a batch to its confirmation",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.unread = gauge("unread_lag_records", "Offsets between the read position and the end, owned partitions")
        self.uncommitted = gauge("uncommitted_records", "Rows in hand that no confirmed commit holds")
        self.partitions = gauge("owned_partitions", "Partitions that this sink owns")
        self.newest = gauge("newest_committed_timestamp_seconds", "event_time of the newest committed row")
        self.deferred = counter("deferred_records_total", "Records that confirmed commits put off, into the ledger")
        self.drained = counter("drained_records_total", "Records of the ledger that confirmed commits brought in")
        self.ledger_records = gauge(
            "ledger_open_records", "Records that are owed to the table or put off in hand, owned partitions"
        )
        self.ledger_entries = gauge("ledger_open_entries", "Ranges of the log with such records, owned partitions")
        self.ledger_oldest = gauge("ledger_oldest_seconds", "Age in the log of the oldest of them, 0 without any")
        self.ledger_stuck = gauge(
            "ledger_stuck_entries", "Such ranges that neither a raw file nor the log has any more, as drains found"
        )
        self.raw_written = counter("raw_files_written_total", "Raw files that the store has taken")
        self.raw_written_bytes = counter("raw_bytes_written_total", "Their bytes")
        self.raw_removed = counter("raw_files_removed_total", "Raw files removed: no snapshot's ledger led to them")
        self.raw_unusable = counter(
            "raw_files_unusable_total", "Ranges whose raw files a drain found missing or damaged", "found"
        )
        for found in RAW_FAULTS:  # an increase is seen from the first one on only where there was a 0 before
            self.raw_unusable.labels(found)
        self.books = BooksCollector()
        registry.register(self.books)
        self.raw_files = gauge("raw_files", f"{_RAW_KEPT}; NaN where that is not known")
        self.raw_bytes = gauge("raw_bytes", f"Bytes of: {_RAW_KEPT}; NaN where that is not known")
        self.raw_oldest = gauge("raw_oldest_seconds", "Age of the oldest of them, 0 without any")
        self._raw_oldest_ms: int | None = None
        self.show_raw(None)
        self.checked = counter("checked_rows_total", "Committed rows that enrichment looked at")
        self.findings = counter("findings_total", "Rows in which it found something that stands out", "finding")
        self.projected = counter("projected_rows_total", "Rows written to the tables ledger and dlq", "table")
        self.aged = counter("aged_rows_total", "Rows that left the table, older than the pipeline keeps them")
        self.cleared = counter("cleared_files_total", "Files removed that only such rows were in, or led to")
        self.control_trouble = Gauge(
            "k2_control_trouble",
            "1 while the control topic is missing, not read or holds garbage, so that the level stays",
            registry=registry,
        )
        self.level = Gauge(
            "k2_degradation_level", "The level of degradation that this service acts on, 0 to 4", registry=registry
        )

    def met_unusable(self, error: RawFileError) -> None:
        """Count a range whose raw files a drain could not use."""
        self.raw_unusable.labels("missing" if isinstance(error.__cause__, FileNotFoundError) else "damaged").inc()

    def show_raw(self, kept: Mapping[str, int] | None) -> None:
        """Show which raw files there are.

        Args:
            kept: Bytes of each that a ledger leads to, by name; None if that is not known.
        """
        self.raw_files.set(math.nan if kept is None else len(kept))
        self.raw_bytes.set(math.nan if kept is None else sum(kept.values()))
        self._raw_oldest_ms = None if kept is None else min((created_ms(name) or 0 for name in kept), default=0)
        self.raw_oldest.set(math.nan)

    def show(self, batch: Batch, unread: Mapping[LogPartition, int], stuck: int, now_ms: int) -> None:
        """Show where a sink stands.

        Args:
            batch: In hand.
            unread: Records of each partition that it owns, as far as that is known.
            stuck: Ranges of the ledger that cannot be brought in.
            now_ms: UTC milliseconds.
        """
        positions, owed = batch.positions(), batch.ledger()
        self.partitions.set(len(positions))
        # What is put off shows here before it ceases to be unread: who waits for both to be 0 must not miss it.
        self.ledger_records.set(owed_records(owed) + batch.deferred)
        self.unread.set(sum(unread.values()))
        self.uncommitted.set(batch.rows)
        self.ledger_entries.set(len(owed))
        oldest_ms = min((entry.oldest_ms for entry in owed), default=now_ms)
        self.ledger_oldest.set(max(0, now_ms - oldest_ms) / 1000)
        self.ledger_stuck.set(stuck)
        if self._raw_oldest_ms is not None:
            self.raw_oldest.set(max(0, now_ms - (self._raw_oldest_ms or now_ms)) / 1000)

    def stage_cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds of the loop by stage, so far."""
        (family,) = self.stage_cpu_seconds.collect()
        return {sample.labels["stage"]: sample.value for sample in family.samples if sample.name.endswith("_total")}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the wall and CPU time of what is done inside to a stage."""
        wall, cpu = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            self.stage_seconds.labels(name).inc(time.monotonic() - wall)
            self.stage_cpu_seconds.labels(name).inc(time.thread_time() - cpu)
