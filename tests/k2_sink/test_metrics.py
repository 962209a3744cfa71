"""What the sink exports, and that time is counted to the stage it was spent in."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from k2_core.codec import BatchDecoder
from k2_core.policy.classes import Priority
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.state import LedgerEntry
from k2_core.types import Level, Offset, Partition, Symbol, TopicId, TopicName
from k2_sink.batch import Batch, Chunk
from k2_sink.dedup import SeenIds
from k2_sink.deferral import Deferring, KeyClasses
from k2_sink.metrics import SinkMetrics


def test_time_is_counted_to_its_stage_even_when_it_fails() -> None:
    metrics = SinkMetrics(CollectorRegistry())
    with metrics.stage("decode"):
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
    with pytest.raises(ValueError, match="bad"), metrics.stage("write"):
        raise ValueError("bad")
    spent = metrics.stage_cpu_s()
    assert spent["decode"] >= 0.02
    assert 0 <= spent["write"] < spent["decode"]


def test_names_are_those_that_dashboards_ask_for() -> None:
    registry = CollectorRegistry()
    metrics = SinkMetrics(registry)
    metrics.dead_letters.labels("truncated").inc()
    metrics.commits.labels("committed").inc()
    text = generate_latest(registry).decode()
    for name in (
        "k2_sink_records_read_total",
        "k2_sink_rows_committed_total",
        "k2_sink_duplicates_total",
        'k2_sink_dead_letters_total{reason="truncated"}',
        'k2_sink_commits_total{outcome="committed"}',
        "k2_sink_unread_lag_records",
        "k2_sink_newest_committed_timestamp_seconds",
        "k2_degradation_level",
        "k2_sink_deferred_records_total",
        "k2_sink_drained_records_total",
        "k2_sink_ledger_open_records",
        "k2_sink_ledger_open_entries",
        "k2_sink_ledger_oldest_seconds",
    ):
        assert f"\n{name} " in text


def test_where_a_sink_stands_is_shown() -> None:
    registry = CollectorRegistry()
    metrics = SinkMetrics(registry)
    at, topic = Partition(0), TopicName("t")
    batch = Batch(TRADES, SeenIds())
    entries = [LedgerEntry(topic, at, Offset(n), Offset(n + 9), ("A",), 2, "", 3 + n, oldest_ms=5_000) for n in (0, 9)]
    batch.start_at((topic, at), Offset(20), tuple(entries))
    metrics.show(batch, {(topic, at): 7}, 1, now_ms=65_000)

    def shown(name: str) -> float | None:
        return registry.get_sample_value(f"k2_sink_{name}")

    assert (shown("owned_partitions"), shown("unread_lag_records")) == (1, 7)
    assert (shown("ledger_open_records"), shown("ledger_open_entries")) == (15, 2)
    assert (shown("ledger_oldest_seconds"), shown("ledger_stuck_entries")) == (60, 1)
    assert math.isnan(shown("raw_oldest_seconds") or 0)  # nobody has looked for raw files
    metrics.show_raw({f"{5_000:013d}-{'0' * 32}.raw": 11, f"{4_000:013d}-{'1' * 32}.raw": 7})
    metrics.show(batch.restarted(set()), {}, 0, now_ms=65_000)
    assert (shown("ledger_open_records"), shown("ledger_oldest_seconds"), shown("ledger_stuck_entries")) == (0, 0, 0)
    assert (shown("raw_files"), shown("raw_bytes"), shown("raw_oldest_seconds")) == (2, 18, 61)
    metrics.show_raw({})
    metrics.show(batch, {}, 0, now_ms=65_000)
    assert (shown("raw_files"), shown("raw_oldest_seconds")) == (0, 0)


def test_what_is_put_off_in_hand_is_owed_as_well() -> None:
    registry = CollectorRegistry()
    metrics = SinkMetrics(registry)
    at, topic = Partition(0), TopicName("t")
    batch = Batch(TRADES, SeenIds())
    entry = LedgerEntry(topic, at, Offset(0), Offset(9), ("A",), 2, "", 3, 0, oldest_ms=5_000)
    batch.start_at((topic, at), Offset(20), (entry,))
    keys: list[bytes | None] = [b"LOWUSDT"] * 4
    places = np.full(4, at, dtype=np.int64), np.arange(20, 24, dtype=np.int64)
    chunk = Chunk(topic, list(keys), *places, keys=keys, first_ms={at: 5_000})
    deferring = Deferring(Level.GRACEFUL, KeyClasses({Symbol("LOWUSDT"): Priority.LOW}), 1_000)
    batch.add(chunk, BatchDecoder(TRADES, PackagedSchemas().by_id), TopicId("id"), lambda rows: rows, deferring)
    metrics.show(batch, {}, 0, now_ms=65_000)
    assert registry.get_sample_value("k2_sink_ledger_open_records") == 3 + 4
