"""From a pipeline to the policy: no setting is lost or exchanged, and the defaults are the same."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, Final

import pytest

from k2_core.errors import SpecError
from k2_core.policy.classes import Priority
from k2_core.policy.configured import policy_config, priorities
from k2_core.policy.thresholds import (
    DegradationConfig,
    LevelThresholds,
    Mode,
    PolicyConfig,
    ScalingConfig,
    yaml_name,
)
from k2_core.spec import PipelineSpec, SinkSpec
from k2_core.spec_policy import DegradationSpec, ScalingSpec
from k2_core.types import Level, Symbol

SYMBOLS: Final = [{"name": "BTCUSDT"}]
FROM_ELSEWHERE: Final = {"commitIntervalSeconds", "positionIntervalSeconds", "inHandSeconds", "standingAtMostSeconds"}
"""Not settings of the policy's part: the sink's own, and constants of the commit protocol and of how sinks work."""
NOT_THE_POLICYS: Final = {"drainRecordsPerSecond", "rawFilesBelowRetentionHours"}
"""The sink's, when it defers and reads back what was deferred."""


def spec(**parts: Any) -> PipelineSpec:
    source = {"name": "binance", "venue": "binance", "symbols": SYMBOLS}
    return PipelineSpec.model_validate({"ingestion": [source], **parts})


def names(config: type[ScalingConfig | DegradationConfig]) -> set[str]:
    return {yaml_name(field.name) for field in fields(config)}


def aliases(model: type[ScalingSpec | DegradationSpec]) -> set[str]:
    return {str(field.alias) for field in model.model_fields.values()}


class TestNames:
    def test_scaling(self) -> None:
        assert aliases(ScalingSpec) == names(ScalingConfig) - FROM_ELSEWHERE

    def test_degradation(self) -> None:
        assert aliases(DegradationSpec) - NOT_THE_POLICYS == names(DegradationConfig) - FROM_ELSEWHERE


class TestValues:
    def test_the_defaults_are_the_policys(self) -> None:
        assert policy_config(spec()) == PolicyConfig()

    def test_scaling(self) -> None:
        """Each figure once, so that none can stand for another."""
        settings = {
            "mode": "Auto",
            "minReplicas": 2,
            "maxReplicas": 9,
            "targetUtilization": 0.6,
            "maxUtilization": 0.65,
            "catchUpSeconds": 301,
            "restartSeconds": 31,
            "maxUpFactor": 3,
            "maxDownFactor": 0.4,
            "downWindowSeconds": 901,
            "settleSeconds": 32,
            "blockSeconds": 1801,
            "maxCommitIntervalSeconds": 302,
            "assumedPerSecond": 5_000,
        }
        assert settings.keys() == aliases(ScalingSpec)
        config = policy_config(spec(scaling=settings, sink={"commitIntervalSeconds": 7})).scaling
        assert config == ScalingConfig(
            mode=Mode.AUTO,
            min_replicas=2,
            max_replicas=9,
            target_utilization=0.6,
            max_utilization=0.65,
            catch_up_s=301,
            restart_s=31,
            max_up_factor=3,
            max_down_factor=0.4,
            down_window_s=901,
            settle_s=32,
            block_s=1801,
            commit_interval_s=7,
            max_commit_interval_s=302,
            assumed_per_s=5_000,
        )

    def test_degradation(self) -> None:
        settings = {
            "mode": "Recommend",
            "levels": {"soft": {"enterUnreadRecords": 2_000}},
            "dwellUpSeconds": 21,
            "dwellDownSeconds": 181,
            "forecastHorizonSeconds": 31,
            "drainingWithinSeconds": 3601,
            "probeSeconds": 61,
            "settleAtMostSeconds": 182,
            "rebalanceGraceSeconds": 32,
            "watchMemory": False,
            "drainRecordsPerSecond": 1,
            "rawFilesBelowRetentionHours": 1,
        }
        assert settings.keys() == aliases(DegradationSpec)
        config = policy_config(spec(degradation=settings)).degradation
        assert config == DegradationConfig(
            mode=Mode.RECOMMEND,
            levels={**PolicyConfig().degradation.levels, Level.SOFT: LevelThresholds(2_000, 10, 0.7)},
            dwell_up_s=21,
            dwell_down_s=181,
            forecast_horizon_s=31,
            draining_within_s=3601,
            probe_s=61,
            settle_at_most_s=182,
            rebalance_grace_s=32,
            watch_memory=False,
        )

    @pytest.mark.parametrize(("interval_s", "longest_s"), [(10, 300), (300, 300), (1200, 1200)])
    def test_a_long_commit_interval_needs_no_longer_maximum(self, interval_s: int, longest_s: int) -> None:
        config = policy_config(spec(sink={"commitIntervalSeconds": interval_s})).scaling
        assert (config.commit_interval_s, config.max_commit_interval_s) == (interval_s, longest_s)


class TestRefused:
    """A spec that was put together without its checks."""

    def test_scaling(self) -> None:
        scaling = ScalingSpec().model_copy(update={"max_commit_interval_seconds": 5})
        with pytest.raises(
            SpecError, match=r"^spec\.scaling\.maxCommitIntervalSeconds: found 5, expected at least 10$"
        ):
            policy_config(spec().model_copy(update={"scaling": scaling}))

    def test_the_sinks_interval(self) -> None:
        sink = SinkSpec().model_copy(update={"commit_interval_seconds": math.nan})
        with pytest.raises(SpecError, match=r"^spec\.scaling\.commitIntervalSeconds: found nan"):
            policy_config(spec().model_copy(update={"sink": sink}))

    def test_levels(self) -> None:
        levels = DegradationSpec().levels
        soft = levels.soft.model_copy(update={"enter_unread_records": 20_000})
        degradation = DegradationSpec().model_copy(update={"levels": levels.model_copy(update={"soft": soft})})
        path = r"spec\.degradation\.levels\.graceful\.enterUnreadRecords"
        with pytest.raises(SpecError, match=rf"^{path}: found 10000, expected above 20000, that of soft$"):
            policy_config(spec().model_copy(update={"degradation": degradation}))


class TestPriorities:
    def test_each_class_by_its_name(self) -> None:
        symbols = [
            {"name": "A", "priority": "critical"},
            {"name": "B", "priority": "normal"},
            {"name": "C", "priority": "low"},
            {"name": "D"},
        ]
        found = priorities(spec(ingestion=[{"name": "a", "venue": "binance", "symbols": symbols}]))
        assert found == {"A": Priority.CRITICAL, "B": Priority.NORMAL, "C": Priority.LOW, "D": Priority.NORMAL}

    @pytest.mark.parametrize("order", [1, -1], ids=["higher-first", "higher-last"])
    def test_the_highest_of_several_sources(self, order: int) -> None:
        sources = [
            {"name": name, "venue": "binance", "symbols": [{"name": "A", "priority": priority}, {"name": name.upper()}]}
            for name, priority in (("x", "normal"), ("y", "low"))
        ]
        assert priorities(spec(ingestion=sources[::order]))[Symbol("A")] is Priority.NORMAL
        assert priorities(spec(ingestion=sources[::order])).keys() == {"A", "X", "Y"}
