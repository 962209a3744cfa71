"""The sink's figures for Prometheus, and where its time goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from k2_core.metrics import LATENCY_BUCKETS_S
from k2_core.state import owed_records
from k2_sink.batch import Batch
from k2_sink.protocol import LogPartition


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
        self.uncommitted = gauge("uncommitted_records", "Offsets read and not yet in a confirmed commit")
        self.partitions = gauge("owned_partitions", "Partitions that this sink owns")
        self.newest = gauge("newest_committed_timestamp_seconds", "event_time of the newest committed row")
        self.deferred = counter("deferred_records_total", "Records that confirmed commits put off, into the ledger")
        self.drained = counter("drained_records_total", "Records of the ledger that confirmed commits brought in")
        self.ledger_records = gauge("ledger_open_records", "Records that are owed to the table, owned partitions")
        self.ledger_entries = gauge("ledger_open_entries", "Ranges of the log with such records, owned partitions")
        self.ledger_oldest = gauge("ledger_oldest_seconds", "Age in the log of the oldest of them, 0 without any")
        self.checked = counter("checked_rows_total", "Committed rows that enrichment looked at")
        self.findings = counter("findings_total", "Rows in which it found something that stands out", "finding")
        self.projected = counter("projected_rows_total", "Rows written to the tables ledger and dlq", "table")
        self.control_trouble = Gauge(
            "k2_control_trouble",
            "1 while the control topic is missing, not read or holds garbage, so that the level stays",
            registry=registry,
        )
        self.level = Gauge(
            "k2_degradation_level", "The level of degradation that this service acts on, 0 to 4", registry=registry
        )

    def show(self, batch: Batch, unread: Mapping[LogPartition, int], now_ms: int) -> None:
        """Show where a sink stands.

        Args:
            batch: In hand.
            unread: Records of each partition that it owns, as far as that is known.
            now_ms: UTC milliseconds.
        """
        positions, owed = batch.positions(), batch.ledger()
        self.partitions.set(len(positions))
        self.unread.set(sum(unread.values()))
        self.uncommitted.set(batch.rows)
        self.ledger_records.set(owed_records(owed))
        self.ledger_entries.set(len(owed))
        oldest_ms = min((entry.oldest_ms for entry in owed), default=now_ms)
        self.ledger_oldest.set(max(0, now_ms - oldest_ms) / 1000)

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
