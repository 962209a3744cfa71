"""Settings that contradict each other are refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from k2_core.errors import SpecError
from k2_core.policy.thresholds import (
    DEFAULT_LEVELS,
    DegradationConfig,
    LevelThresholds,
    PolicyConfig,
    ScalingConfig,
    level_yaml_name,
    yaml_name,
)
from k2_core.types import Level


def with_level(level: Level, **changed: float) -> DegradationConfig:
    return DegradationConfig(levels={**DEFAULT_LEVELS, level: replace(DEFAULT_LEVELS[level], **changed)})


def test_the_defaults_are_those_of_the_documentation() -> None:
    levels = PolicyConfig().degradation.levels
    entries = [(item.enter_unread_records, item.enter_age_s, item.enter_memory_ratio) for item in levels.values()]
    assert entries == [(1e3, 10, 0.7), (1e4, 30, 0.8), (1e5, 120, 0.9), (1e6, math.inf, 0.95)]
    assert levels[Level.SOFT].exit_unread_records == pytest.approx(700)
    assert levels[Level.SOFT].exit_age_s == pytest.approx(7)


@pytest.mark.parametrize(
    ("make", "path", "found"),
    [
        (
            lambda: with_level(Level.GRACEFUL, exit_unread_records=8_000),
            "spec.degradation.levels.graceful.exitUnreadRecords",
            "8000",
        ),
        (
            lambda: with_level(Level.SOFT, exit_age_s=11),
            "spec.degradation.levels.soft.exitAgeSeconds",
            "11",
        ),
        (
            lambda: with_level(Level.AGGRESSIVE, enter_unread_records=9_000, exit_unread_records=6_300),
            "spec.degradation.levels.aggressive.enterUnreadRecords",
            "9000",
        ),
        (
            lambda: with_level(Level.GRACEFUL, exit_memory_ratio=0.3),
            "spec.degradation.levels.graceful.exitMemoryRatio",
            "0.3",
        ),
        (
            lambda: with_level(Level.SOFT, enter_unread_records=0),
            "spec.degradation.levels.soft.enterUnreadRecords",
            "0",
        ),
        (
            lambda: with_level(Level.CIRCUIT_BREAK, enter_memory_ratio=1.2),
            "spec.degradation.levels.circuitBreak.enterMemoryRatio",
            "1.2",
        ),
        (
            lambda: DegradationConfig(levels={Level.SOFT: LevelThresholds(1, 1, 0.1)}),
            "spec.degradation.levels",
            "soft",
        ),
        (lambda: DegradationConfig(levels={}), "spec.degradation.levels", "none"),
        (lambda: DegradationConfig(dwell_down_s=0), "spec.degradation.dwellDownSeconds", "0"),
        (lambda: DegradationConfig(forecast_horizon_s=-1), "spec.degradation.forecastHorizonSeconds", "-1"),
        (lambda: ScalingConfig(min_replicas=0), "spec.scaling.minReplicas", "0"),
        (lambda: ScalingConfig(min_replicas=3, max_replicas=2), "spec.scaling.maxReplicas", "2"),
        (lambda: ScalingConfig(target_utilization=1.1), "spec.scaling.targetUtilization", "1.1"),
        (lambda: ScalingConfig(target_utilization=0.9), "spec.scaling.maxUtilization", "0.85"),
        (lambda: ScalingConfig(max_up_factor=1), "spec.scaling.maxUpFactor", "1"),
        (lambda: ScalingConfig(max_down_factor=1.5), "spec.scaling.maxDownFactor", "1.5"),
        (lambda: ScalingConfig(max_commit_interval_s=5), "spec.scaling.maxCommitIntervalSeconds", "5"),
        (lambda: ScalingConfig(catch_up_s=math.inf), "spec.scaling.catchUpSeconds", "inf"),
        (lambda: ScalingConfig(assumed_per_s=0), "spec.scaling.assumedPerSecond", "0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_contradiction_names_the_field(make: Callable[[], object], path: str, found: str) -> None:
    with pytest.raises(SpecError) as error:
        make()
    assert (error.value.path, error.value.found) == (path, found)


def test_the_message_holds_what_was_expected() -> None:
    with pytest.raises(SpecError, match="found 8000, expected above 0 and at least 30 % below the entry 10000"):
        with_level(Level.GRACEFUL, exit_unread_records=8_000)
    with pytest.raises(SpecError, match=r"found 0\.85, expected above 0\.9 and at most 1"):
        ScalingConfig(target_utilization=0.9)


def test_numbers_are_written_out() -> None:
    with pytest.raises(SpecError, match=r"found 1234567, expected above 0 and .* entry 1000000, at most 700000$"):
        with_level(Level.CIRCUIT_BREAK, exit_unread_records=1_234_567)


def test_names_as_in_yaml() -> None:
    assert [yaml_name(name) for name in ("mode", "dwell_up_s", "enter_unread_records")] == [
        "mode",
        "dwellUpSeconds",
        "enterUnreadRecords",
    ]
    assert [level_yaml_name(level) for level in DEFAULT_LEVELS] == ["soft", "graceful", "aggressive", "circuitBreak"]
