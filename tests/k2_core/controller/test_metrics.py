"""The controller's figures: what is known is shown, what is not is absent, and never 0."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from k2_core.control import Override
from k2_core.controller.lag import PartitionLag
from k2_core.controller.look import Look
from k2_core.controller.loop import Tick
from k2_core.controller.metrics import ControllerMetrics
from k2_core.controller.sight import Executor, observe
from k2_core.policy.decision import PolicyState, step
from k2_core.policy.observation import Observation
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig
from k2_core.sink_report import SinkReport
from k2_core.types import Level, Offset, Partition, TopicName

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
T = TopicName("market.crypto.trades.binance")
CONFIG = PolicyConfig(DegradationConfig(mode=Mode.AUTO))


def look(read: int | None = 40) -> Look:
    position = None if read is None else Offset(read)
    part = PartitionLag((T, Partition(0)), Offset(0), Offset(100), position, Offset(10), 3.0, 7.0, 2.0)
    return Look(AT, (part,), {"s": SinkReport("s", AT, deferred=5)}, 1, retention_s=3_600.0)


def tick(seen: Look | None, override: Override | None = None) -> Tick:
    observation = Observation(replicas=2) if seen is None else observe(None, seen, Executor(2))
    return Tick(step(CONFIG, PolicyState(), observation, AT.timestamp())[1], seen, override, told=True)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_lag_by_topic_and_what_is_owed(registry: CollectorRegistry) -> None:
    ControllerMetrics(registry).show(tick(look()))
    found = {name: registry.get_sample_value(name, {"topic": T}) for name in LAGS}
    assert found == dict(zip(LAGS, (60, 90, 3, 7, 2), strict=True))
    assert registry.get_sample_value("k2_controller_deferred_records", {"is": "owed"}) == 5
    assert registry.get_sample_value("k2_controller_level") == 0
    assert registry.get_sample_value("k2_controller_override") == 0
    assert registry.get_sample_value("k2_controller_turns_total", {"outcome": "looked"}) == 1


def test_what_is_not_known_any_more_goes_away(registry: CollectorRegistry) -> None:
    metrics = ControllerMetrics(registry)
    metrics.show(tick(look()))
    metrics.show(tick(look(read=None)))
    assert registry.get_sample_value("k2_lag_unread_records", {"topic": T}) is None
    assert registry.get_sample_value("k2_lag_uncommitted_records", {"topic": T}) == 90
    metrics.show(tick(None))
    assert [registry.get_sample_value(name, {"topic": T}) for name in LAGS] == [None] * 5
    assert registry.get_sample_value("k2_controller_sinks", {"is": "ready"}) is None
    assert registry.get_sample_value("k2_controller_deferred_records", {"is": "owed"}) is None
    assert registry.get_sample_value("k2_controller_turns_total", {"outcome": "held"}) == 1
    missing = registry.get_sample_value("k2_controller_missing_figures")
    assert missing is not None
    assert missing >= 4


def test_why_it_is_so_and_what_holds_it_is_shown_while_it_does(registry: CollectorRegistry) -> None:
    metrics = ControllerMetrics(registry)
    metrics.show(tick(None))
    assert registry.get_sample_value("k2_controller_held", {"of": "level", "word": "MetricsMissing"}) == 1
    assert registry.get_sample_value("k2_controller_missing", {"of": "figures", "word": "memory_ratio"}) == 1
    assert registry.get_sample_value("k2_controller_memory_ratio", {"is": "seen"}) is None
    seen = replace(look(), reports={"s": SinkReport("s", AT, memory_ratio=0.25)})
    metrics.show(tick(seen))
    assert registry.get_sample_value("k2_controller_missing", {"of": "figures", "word": "memory_ratio"}) is None
    assert registry.get_sample_value("k2_controller_memory_ratio", {"is": "seen"}) == 0.25
    assert registry.get_sample_value("k2_controller_unread_age_seconds", {"is": "seen"}) == 3
    assert registry.get_sample_value("k2_controller_why", {"of": "sinks", "word": "ModeOff"}) == 1


def test_a_persons_decision_is_shown(registry: CollectorRegistry) -> None:
    override = Override(Level.SOFT, "drill", "anna", AT, AT + timedelta(hours=1))
    ControllerMetrics(registry).show(tick(look(), override))
    assert registry.get_sample_value("k2_controller_override") == 1


LAGS = (
    "k2_lag_unread_records",
    "k2_lag_uncommitted_records",
    "k2_lag_unread_age_seconds",
    "k2_lag_uncommitted_age_seconds",
    "k2_lag_committed_age_seconds",
)
