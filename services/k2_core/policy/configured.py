"""What a pipeline's spec asks of the policy: its settings, and the priority class of each symbol.

Called by the operator, which decides, and by the sink, which defers. Never decides anything itself. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from k2_core.policy.classes import Priority
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig, ScalingConfig
from k2_core.spec import DegradationSpec, PipelineSpec, ScalingSpec
from k2_core.types import Symbol


def policy_config(spec: PipelineSpec) -> PolicyConfig:
    """Return the policy's settings for a pipeline.

    Raises:
        SpecError: They contradict each other; with the path in YAML. Not for a spec that was parsed.
    """
    return PolicyConfig(_degradation(spec.degradation), _scaling(spec.scaling, spec.sink.commit_interval_seconds))


def _degradation(spec: DegradationSpec) -> DegradationConfig:
    return DegradationConfig(
        mode=Mode(spec.mode),
        levels=spec.levels.thresholds,
        dwell_up_s=spec.dwell_up_seconds,
        dwell_down_s=spec.dwell_down_seconds,
        forecast_horizon_s=spec.forecast_horizon_seconds,
        draining_within_s=spec.draining_within_seconds,
        probe_s=spec.probe_seconds,
        settle_at_most_s=spec.settle_at_most_seconds,
        rebalance_grace_s=spec.rebalance_grace_seconds,
        watch_memory=spec.watch_memory,
    )


def _scaling(spec: ScalingSpec, commit_interval_s: float) -> ScalingConfig:
    longest_s = spec.max_commit_interval_seconds
    if longest_s is None:
        # A pipeline that never scales may commit more rarely than the default allows for.
        longest_s = max(ScalingConfig().max_commit_interval_s, commit_interval_s)
    return ScalingConfig(
        mode=Mode(spec.mode),
        min_replicas=spec.min_replicas,
        max_replicas=spec.max_replicas,
        target_utilization=spec.target_utilization,
        max_utilization=spec.max_utilization,
        catch_up_s=spec.catch_up_seconds,
        restart_s=spec.restart_seconds,
        max_up_factor=spec.max_up_factor,
        max_down_factor=spec.max_down_factor,
        down_window_s=spec.down_window_seconds,
        settle_s=spec.settle_seconds,
        block_s=spec.block_seconds,
        commit_interval_s=commit_interval_s,
        max_commit_interval_s=longest_s,
        assumed_per_s=spec.assumed_per_second,
    )


def priorities(spec: PipelineSpec) -> Mapping[Symbol, Priority]:
    """Return the class of each symbol; the highest where several sources name one, as they share its records."""
    classes: dict[Symbol, Priority] = {}
    for source in spec.ingestion:
        for symbol in source.classed_symbols:
            priority = Priority[symbol.priority.upper()]
            classes[Symbol(symbol.name)] = max(priority, classes.get(Symbol(symbol.name), priority))
    return classes
