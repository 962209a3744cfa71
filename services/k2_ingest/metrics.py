"""What an ingest process shows of itself: the series `k2_ingest_*`.

Owns the names. Counts that change with every record are plain integers elsewhere and are read when Prometheus asks, so
that the hot path pays nothing for them; only what is rare or sampled is counted here directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from k2_core.metrics import LATENCY_BUCKETS_S
from k2_core.types import Symbol
from k2_ingest.deliveries import Account
from k2_ingest.sequence import SequenceTracker

_ACCOUNT_COUNTERS: Final[tuple[tuple[str, str, Callable[[Account], int]], ...]] = (
    ("trades_received", "Trades that came from the venue", lambda account: account.received),
    ("records_produced", "Trades handed to Kafka's client", lambda account: account.produced),
    ("records_acknowledged", "Trades that Kafka acknowledged", lambda account: account.acknowledged),
    ("records_failed", "Trades that Kafka will never have", lambda account: account.failed),
)
_TRACKER_COUNTERS: Final[tuple[tuple[str, str, Callable[[SequenceTracker], int]], ...]] = (
    ("sequence_gaps", "Gaps in the venue's ids, closed ones too", lambda tracker: tracker.gaps_opened),
    ("duplicates", "Ids that came again", lambda tracker: tracker.duplicates),
)
_TRACKER_GAUGES: Final[tuple[tuple[str, str, Callable[[SequenceTracker], int]], ...]] = (
    ("sequence_gaps_open", "Gaps that nothing has closed", lambda tracker: len(tracker.missing)),
    ("sequence_missing", "Ids in open gaps", lambda tracker: tracker.missing_count),
    ("sequence_longest_gap_ids", "Ids in the longest open gap", lambda tracker: tracker.longest_gap),
)


class IngestMetrics:
    """The directly counted series.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.heard_ns = time.time_ns()
        """When the venue's last message came off the socket, UTC nanoseconds; before the first, when this began."""
        self.messages = Counter(
            "k2_ingest_messages_received", "Messages that came from the venue, of any kind", registry=registry
        )
        self.dead_letters = Counter(
            "k2_ingest_dead_letters", "Messages that could not become a record", ["reason"], registry=registry
        )
        self.ignored = Counter(
            "k2_ingest_messages_ignored", "Documented messages that nobody asked for", ["kind"], registry=registry
        )
        self.exchange_to_receive = Histogram(
            "k2_ingest_exchange_to_receive_seconds",
            "From the venue's time to ours, of the last trade of each batch; below zero where a clock is off",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.receive_to_acknowledge = Histogram(
            "k2_ingest_receive_to_acknowledge_seconds",
            "From the socket to the log of all replicas, once for each batch",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.paused = Counter(
            "k2_ingest_pauses", "Times that reading stopped because Kafka's queue was full", registry=registry
        )


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the pipeline wants to be told of a source that never ends.

    Args:
        gap_ids: Ids missing in a row.
        silence_s: Seconds without a message.
        heard_ns: Of the last message, UTC nanoseconds.
    """

    gap_ids: int
    silence_s: int
    heard_ns: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Readings:
    """Where the live numbers are.

    Args:
        accounts: Counts by symbol.
        trackers: Sequences by symbol.
        queued: Records that wait for their acknowledgement.
        connections: Connections opened so far.
        connected: Whether one is open.
        thresholds: None for a source that ends.
        unknown: How many symbols the venue does not know; None while it has not said.
    """

    accounts: Mapping[Symbol, Account]
    trackers: Mapping[Symbol, SequenceTracker]
    queued: Callable[[], int]
    connections: Callable[[], int]
    connected: Callable[[], bool]
    thresholds: Thresholds | None = None
    unknown: Callable[[], int | None] = lambda: None


class LiveCollector(Collector):
    """Reads the live numbers when it is asked.

    Args:
        readings: Where they are.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterable[Metric]:
        """All series as they are now."""
        accounts = dict(self._readings.accounts)
        trackers = dict(self._readings.trackers)
        for name, help_text, read in _ACCOUNT_COUNTERS:
            values = {symbol: read(account) for symbol, account in accounts.items()}
            yield _by_symbol(CounterMetricFamily(f"k2_ingest_{name}", help_text, labels=["symbol"]), values)
        for name, help_text, count in _TRACKER_COUNTERS:
            values = {symbol: count(tracker) for symbol, tracker in trackers.items()}
            yield _by_symbol(CounterMetricFamily(f"k2_ingest_{name}", help_text, labels=["symbol"]), values)
        for name, help_text, count in _TRACKER_GAUGES:
            values = {symbol: count(tracker) for symbol, tracker in trackers.items()}
            yield _by_symbol(GaugeMetricFamily(f"k2_ingest_{name}", help_text, labels=["symbol"]), values)
        yield GaugeMetricFamily("k2_ingest_queue_records", "Records without acknowledgement", self._readings.queued())
        yield GaugeMetricFamily("k2_ingest_connected", "1 while connected to the venue", self._readings.connected())
        yield CounterMetricFamily("k2_ingest_connections", "Connections opened", self._readings.connections())
        if (unknown := self._readings.unknown()) is not None:
            yield GaugeMetricFamily("k2_ingest_unknown_symbols", "Symbols that the venue does not know", unknown)
        if (known := self._readings.thresholds) is not None:
            for name, help_text, value in (
                ("gap_threshold_ids", "Ids missing in a row that make an alert", known.gap_ids),
                ("silence_threshold_seconds", "Seconds without a message that make an alert", known.silence_s),
                ("last_message_timestamp_seconds", "When the last message came", known.heard_ns() / 1e9),
            ):
                yield GaugeMetricFamily(f"k2_ingest_{name}", help_text, value)


def _by_symbol(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[Symbol, int]) -> Metric:
    for symbol, value in values.items():
        family.add_metric([symbol], value)
    return family
