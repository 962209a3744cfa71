"""What the sink exports, and that time is counted to the stage it was spent in."""

from __future__ import annotations

import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

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
    ):
        assert f"\n{name} " in text
