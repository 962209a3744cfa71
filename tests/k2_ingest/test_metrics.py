"""Names and values of the series."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from k2_core.types import Symbol
from k2_ingest.deliveries import Account
from k2_ingest.metrics import IngestMetrics, LiveCollector, Readings, Thresholds
from k2_ingest.sequence import SequenceTracker

BTC = Symbol("BTCUSDT")


def test_live_numbers_are_read_when_asked() -> None:
    registry = CollectorRegistry()
    account, tracker = Account(), SequenceTracker(0)
    registry.register(
        LiveCollector(
            Readings({BTC: account}, {BTC: tracker}, queued=lambda: 7, connections=lambda: 2, connected=lambda: True)
        )
    )
    account.received, account.produced, account.acknowledged, account.failed = 4, 3, 2, 1
    for number in (0, 5, 9, 9):
        tracker.observe(number)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"k2_ingest_{name}", labels)

    assert value("trades_received_total", symbol=BTC) == 4
    assert value("records_produced_total", symbol=BTC) == 3
    assert value("records_acknowledged_total", symbol=BTC) == 2
    assert value("records_failed_total", symbol=BTC) == 1
    assert value("sequence_gaps_total", symbol=BTC) == 2
    assert value("sequence_gaps_open", symbol=BTC) == 2
    assert value("sequence_missing", symbol=BTC) == 7
    assert value("sequence_longest_gap_ids", symbol=BTC) == 4
    assert value("silence_threshold_seconds") is None
    assert value("duplicates_total", symbol=BTC) == 1
    assert (value("queue_records"), value("connected"), value("connections_total")) == (7, 1, 2)


def test_what_the_pipeline_wants_to_be_told_of() -> None:
    registry, heard = CollectorRegistry(), [1_767_600_000_000_000_000]
    thresholds = Thresholds(gap_ids=5, silence_s=90, heard_ns=lambda: heard[-1])
    counts = Readings({}, {}, lambda: 0, lambda: 0, lambda: True, thresholds)
    registry.register(LiveCollector(counts))
    assert registry.get_sample_value("k2_ingest_gap_threshold_ids") == 5
    assert registry.get_sample_value("k2_ingest_silence_threshold_seconds") == 90
    assert registry.get_sample_value("k2_ingest_last_message_timestamp_seconds") == 1_767_600_000
    heard.append(1_767_600_001_500_000_000)
    assert registry.get_sample_value("k2_ingest_last_message_timestamp_seconds") == 1_767_600_001.5


def test_unknown_symbols_are_counted_once_the_venue_has_said() -> None:
    registry, unknown = CollectorRegistry(), list[int | None]([None])
    counts = Readings({}, {}, lambda: 0, lambda: 0, lambda: True, unknown=lambda: unknown[-1])
    registry.register(LiveCollector(counts))
    assert registry.get_sample_value("k2_ingest_unknown_symbols") is None
    unknown.append(2)
    assert registry.get_sample_value("k2_ingest_unknown_symbols") == 2


def test_counters_end_in_total_and_times_are_seconds() -> None:
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)
    metrics.dead_letters.labels("malformed_json").inc()
    metrics.exchange_to_receive.observe(-1.27)
    text = generate_latest(registry).decode()
    assert 'k2_ingest_dead_letters_total{reason="malformed_json"} 1.0' in text
    assert 'k2_ingest_exchange_to_receive_seconds_bucket{le="0.001"} 1.0' in text
