"""What a controller decides from, for tests of status and rendering: decisions of the policy without a Kafka."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from k2_core.controller.look import Look
from k2_core.controller.loop import Tick
from k2_core.policy.decision import Decision, PolicyState, step
from k2_core.policy.observation import Observation
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig, ScalingConfig
from support.policy import QUIET

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
CALM = replace(
    QUIET,
    memory_ratio=0.1,
    active_partitions=8,
    commit_duration_s=0.1,
    oldest_uncommitted_age_s=0.0,
    retention_s=1_000.0,
)


def config(degradation: Mode = Mode.AUTO, scaling: Mode = Mode.AUTO) -> PolicyConfig:
    """Settings with these modes."""
    return PolicyConfig(DegradationConfig(mode=degradation), ScalingConfig(mode=scaling, assumed_per_s=1_000))


def decision(observation: Observation = CALM, settings: PolicyConfig | None = None) -> Decision:
    """What the policy says of one look, without a past."""
    return step(config() if settings is None else settings, PolicyState(), observation, 1_000_000.0)[1]


def tick(found: Decision, **more: object) -> Tick:
    """A turn that brought this decision."""
    return replace(Tick(found, Look(at=MOMENT), None, told=True), **more)  # type: ignore[arg-type]
